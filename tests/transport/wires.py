"""Byte streams of the tests, and an outbox on one."""

from collections.abc import Awaitable, Callable

import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, memory_stream_pair

from broker.errors import CloseCode
from broker.transport.byte_stream import ByteStream, MemoryByteStream, SocketByteStream
from broker.transport.frames import WebSocketCodec
from broker.transport.outbox import Outbox

CODEC = WebSocketCodec()


def memory_pair() -> tuple["trio.StapledStream[MemorySendStream, MemoryReceiveStream]", MemoryByteStream]:
    """Return the peer's end and ours."""
    client, server = memory_stream_pair()
    return client, MemoryByteStream(server, "10.0.0.1")


async def tcp_pair(host: str = "127.0.0.1") -> tuple[trio.SocketStream, SocketByteStream]:
    """Return the peer's end and ours."""
    async with (await trio.open_tcp_listeners(0, host=host))[0] as listener:
        client = await trio.open_tcp_stream(*listener.socket.getsockname()[:2])
        return client, SocketByteStream.accepted(await listener.accept())


class FakeWire(MemoryByteStream):
    """Takes `credit` bytes at once; `send_all` waits for credit. `handed` is all it was given to write."""

    is_acknowledged = True

    def __init__(self, credit: int) -> None:
        super().__init__(memory_stream_pair()[0], "10.0.0.1")
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

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
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


def _flush_at_once(flush: Callable[[], int]) -> None:
    flush()


def _raise(error: Exception) -> None:
    raise error


def open_outbox(
    stream: ByteStream,
    limit: int,
    start_writer: Callable[[Callable[[], Awaitable[None]]], None],
    *,
    drops: bool = False,
    schedule: Callable[[Callable[[], int]], None] | None = None,
    fail: Callable[[Exception], None] = _raise,
) -> tuple[Outbox, list[CloseCode]]:
    """Return an outbox, and a list of the codes with which it asks for the end of its connection.

    Without `schedule` it is flushed at once.
    """
    ended: list[CloseCode] = []
    outbox = Outbox(
        stream,
        CODEC,
        limit_bytes=limit,
        slow_reader="drop" if drops else "disconnect",
        disconnect=lambda code, _reason: ended.append(code),
        schedule=schedule or _flush_at_once,
        start_writer=start_writer,
        fail=fail,
    )
    return outbox, ended
