"""Inputs in pieces, and coroutines that never have to wait: for all targets."""

from collections.abc import Coroutine, Sequence
from itertools import pairwise
from random import Random
from typing import Any, TypeVar
from zlib import crc32

import trio

T = TypeVar("T")

MOST_SINGLE_BYTES = 200


def in_pieces(data: bytes) -> list[list[bytes]]:
    """Return ways to cut `data` into pieces; the same for the same data, so that a failure can be repeated."""
    random = Random(crc32(data))
    places = sorted(random.randrange(len(data) + 1) for _ in range(random.randint(1, 3)))
    ways = [[data[first:last] for first, last in pairwise([0, *places, len(data)])]]
    if len(data) <= MOST_SINGLE_BYTES:
        ways.append([data[at : at + 1] for at in range(len(data))])
    else:
        # Limits of what is incomplete are reached.
        ways.append([data[:-1], data[-1:]])
    return [[piece for piece in pieces if piece] for pieces in ways]


class Pieces(trio.abc.Stream):
    """A stream that has been received already, in pieces, and then ends."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._waiting = [piece for piece in pieces if piece]

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self._waiting:
            return b""
        piece = self._waiting.pop(0)
        if max_bytes is not None and len(piece) > max_bytes:
            self._waiting.insert(0, piece[max_bytes:])
        return piece[:max_bytes]

    def rest(self) -> bytes:
        """Return the bytes that nobody has received."""
        return b"".join(self._waiting)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        raise AssertionError("nothing is sent")

    async def wait_send_all_might_not_block(self) -> None:
        raise AssertionError("nothing is sent")

    async def aclose(self) -> None:
        self._waiting.clear()


def run_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that reads `Pieces` and waits for nothing else; within a task of trio."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    raise AssertionError("it waits")
