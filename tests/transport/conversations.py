"""Conversations with a WebSocket of the transport: the frames that a peer may send, and what came of them."""

import itertools
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from operator import xor
from typing import Any

import attrs
import trio
from trio.testing import MockClock
from trio_websocket import CloseReason

from broker.errors import CloseCode
from broker.transport.byte_stream import SocketByteStream
from broker.transport.closed import Closed
from broker.transport.pump import open_pump
from broker.transport.websocket import WebSocket
from tests.transport.wires import memory_pair, open_outbox

LIMIT_BYTES = 70_000
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


class Octets(bytes):
    """Bytes that are not written out in full: hypothesis warns of a long repr, and the warning would hide a failure."""

    def __repr__(self) -> str:
        return bytes.__repr__(self) if len(self) < 50 else f"<{len(self)} bytes: {bytes(self[:20])!r}...>"


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    key: bytes | None = b"mask",
    length_bytes: int | None = None,
) -> bytes:
    """Return a frame as a peer may build it, also a wrong one: `length_bytes` (1, 2 or 8) may be too many."""
    size = len(payload)
    least = 1 if size < 126 else 2 if size < 1 << 16 else 8
    length_bytes = max(least, length_bytes or least)
    head = bytes([fin << 7 | reserved << 4 | opcode])
    mask_bit = 0 if key is None else 0x80
    if length_bytes == 1:
        head += bytes([mask_bit | size])
    else:
        head += bytes([mask_bit | (126 if length_bytes == 2 else 127)]) + size.to_bytes(length_bytes, "big")
    if key is None:
        return Octets(head + payload)
    return Octets(head + key + bytes(map(xor, payload, itertools.cycle(key))))


@attrs.frozen
class Outcome:
    """A connection as the server saw it, with its answers."""

    messages: tuple[str | bytes, ...]
    closed: tuple[int, str | None] | None
    written: bytes


@attrs.define
class Receiver:
    """Takes messages out of a connection; those that begin with "w" have to wait, as a join does."""

    messages: list[str | bytes] = attrs.Factory(list)
    by_fast_path: int = 0
    """How many messages the fast path has found, also those that had to wait."""

    def handle_nowait(self, text: str) -> Callable[[], Awaitable[None]] | None:
        self.by_fast_path += 1
        if text.startswith("w"):
            return partial(self.handle, text)
        self.messages.append(text)
        return None

    async def handle(self, message: str | bytes) -> None:
        await trio.sleep(1 if message[:1] == "w" else 0)
        self.messages.append(message)

    async def handle_all(self, websocket: WebSocket) -> None:
        while (message := await websocket.receive()) is not None:
            await (self.handle(message) if isinstance(message, str | bytes) else message())


def socket_pair() -> tuple[trio.SocketStream, SocketByteStream]:
    ours, theirs = trio.socket.socketpair()
    return trio.SocketStream(ours), SocketByteStream(trio.SocketStream(theirs), "unix")


def fail(error: Exception) -> None:
    raise error


async def converse(
    pieces: Sequence[bytes],
    *,
    has_fast_path: bool,
    is_pumped: bool = False,
    pause_seconds: float = 0,
    closes_after_seconds: float | None = None,
    inflates: bool = False,
) -> tuple[Outcome, int]:
    """Send pieces to a server with a fast path, or to trio-websocket alone; returns what came of it.

    The number is that of the messages that were handled, or begun, while they were read.
    """
    client, server = socket_pair() if is_pumped else memory_pair()
    receiver = Receiver()
    answers = bytearray()

    async def read_answers() -> None:
        while data := await client.receive_some():
            answers.extend(data)

    async def send_pieces() -> None:
        try:
            for piece in pieces:
                await client.send_all(piece)
                # Without a pause the server gets a piece alone now and then, now and then with the next.
                await trio.sleep(pause_seconds)
            await client.send_eof()
        except trio.BrokenResourceError:
            pass

    async with client, open_pump() as pump, trio.open_nursery() as nursery:
        nursery.start_soon(read_answers)
        async with trio.open_nursery() as connection_nursery:
            outbox, _ = open_outbox(server, 1 << 20, connection_nursery.start_soon)
            websocket = WebSocket(
                server,
                outbox,
                pump if is_pumped else None,
                limit_bytes=LIMIT_BYTES,
                handle_nowait=receiver.handle_nowait,
                on_frames=lambda _count: None,
                start_task=connection_nursery.start_soon,
                fail=fail,
                has_fast_path=has_fast_path,
                inflates=inflates,
            )
            websocket.start(b"")
            nursery.start_soon(send_pieces)
            if closes_after_seconds is None:
                await receiver.handle_all(websocket)
            else:
                with trio.move_on_after(closes_after_seconds):
                    await receiver.handle_all(websocket)
            with trio.move_on_after(5):
                await websocket.close(4000, "bye")
            websocket.end_reading()
            outbox.close()
            connection_nursery.cancel_scope.cancel()
        await websocket.finish()
    return make_outcome(receiver, websocket.closed, bytes(answers)), receiver.by_fast_path


def make_outcome(receiver: Receiver, closed: CloseReason | Closed | None, written: bytes) -> Outcome:
    if closed is None:
        return Outcome(tuple(receiver.messages), None, written)
    reason: str | None = closed.reason or ""
    if closed.code == CloseCode.INVALID_UTF8:
        # Which byte was bad is counted from where the piece begins that trio-websocket was given.
        reason = None
    if closed.code in (CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_UTF8):
        # trio-websocket alone writes no close frame.
        written = written.partition(b"\x88")[0]
    return Outcome(tuple(receiver.messages), (int(closed.code), reason), written)


def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return trio.run(partial(function, *args, **kwargs), clock=MockClock(autojump_threshold=0))


def cut_up(conversation: list[tuple[bytes, int | None]]) -> list[bytes]:
    """Return the bytes of a conversation in pieces; what is behind the last cut never comes."""
    pieces = []
    rest = b""
    for data, cut in conversation:
        rest += data
        if cut is not None:
            end = max(0, len(rest) - cut)
            pieces.append(rest[:end])
            rest = rest[end:]
    return [piece for piece in pieces if piece]
