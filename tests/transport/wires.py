"""A wire of the tests, and an outbox on it."""

from collections.abc import Awaitable, Callable

import trio

from broker.errors import CloseCode
from broker.transport.frames import WebSocketCodec
from broker.transport.outbox import Outbox, Schedule
from broker.transport.wire import Wire

CODEC = WebSocketCodec()


class FakeWire:
    """Takes `credit` bytes at once; `send_all` waits for credit. `handed` is all it was given to write."""

    is_progress_life = True

    def __init__(self, credit: int) -> None:
        self.credit = credit
        self.handed = bytearray()
        self.finished_bytes = 0
        self.is_broken = False
        self._changed = trio.lowlevel.ParkingLot()

    def write_nowait(self, data: bytes | memoryview) -> int:
        if self.is_broken:
            raise trio.BrokenResourceError
        taken = min(self.credit, len(data))
        self.credit -= taken
        self.handed += data[:taken]
        self.finished_bytes += taken
        return taken

    async def send_all(self, data: bytes) -> None:
        self.handed += data
        await trio.lowlevel.checkpoint()
        left = len(data)
        while left:
            if self.is_broken:
                raise trio.BrokenResourceError
            taken = min(left, self.credit)
            left -= taken
            self.credit -= taken
            if left:
                await self._changed.park()
        self.finished_bytes += len(data)

    def give(self, credit: int) -> None:
        self.credit += credit
        self._changed.unpark_all()

    def break_down(self) -> None:
        self.is_broken = True
        self._changed.unpark_all()


def _flush_at_once(flush: Callable[[], int], *, is_bulk: bool = False) -> None:
    flush()


def _raise(error: Exception) -> None:
    raise error


def open_outbox(
    wire: Wire,
    limit: int,
    start_writer: Callable[[Callable[[], Awaitable[None]]], None],
    *,
    drops: bool = False,
    schedule: Schedule | None = None,
    fail: Callable[[Exception], None] = _raise,
) -> tuple[Outbox, list[CloseCode]]:
    """Return an outbox, and a list of the codes with which it asks for the end of its connection.

    Without `schedule` it is flushed at once.
    """
    ended: list[CloseCode] = []
    outbox = Outbox(
        wire,
        CODEC,
        limit_bytes=limit,
        slow_reader="drop" if drops else "disconnect",
        disconnect=lambda code, _reason: ended.append(code),
        schedule=schedule or _flush_at_once,
        start_writer=start_writer,
        fail=fail,
    )
    return outbox, ended
