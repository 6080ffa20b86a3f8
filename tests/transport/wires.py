"""Byte streams of the tests, and an outbox on one."""

import contextlib
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path

import attrs
import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, memory_stream_pair

from broker.errors import CloseCode
from broker.rooms.tally import Tally
from broker.sessions.backlog import Backlog
from broker.transport.byte_stream import ByteStream, MemoryByteStream, SocketByteStream
from broker.transport.frames import WebSocketCodec
from broker.transport.outbox import Outbox
from broker.transport.tls.handshake import shake_hands
from broker.transport.tls.stream import TlsBuffers, TlsByteStream
from tests.certificates import Authority

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


@cache
def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return those of a client and of a server."""
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(Path(folder))
        pair = authority.issue()
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(pair.certificate, pair.key)
        return authority.client_context(), serving


@attrs.define(eq=False)
class TlsClient(trio.abc.HalfCloseableStream):
    """A client's end of TLS over any stream; unlike trio's it can end one side."""

    inner: trio.abc.HalfCloseableStream
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    tls: ssl.SSLObject
    is_cut: bool = False
    """Whether the server's side ended without close_notify."""

    @classmethod
    def over(cls, inner: trio.abc.HalfCloseableStream, context: ssl.SSLContext) -> "TlsClient":
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        return cls(inner, incoming, outgoing, tls)

    async def shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.inner.send_all(self.outgoing.read())
                await self._receive()
            else:
                await self.inner.send_all(self.outgoing.read())
                return

    async def _receive(self) -> None:
        data = await self.inner.receive_some(65_536)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while True:
            try:
                return self.tls.read(max_bytes or 65_536)
            except ssl.SSLWantReadError:
                await self._receive()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLEOFError:
                self.is_cut = True
                return b""

    def encrypt(self, data: bytes | bytearray | memoryview) -> bytes:
        """Return what is to be sent, without sending it."""
        self.tls.write(data)
        return self.outgoing.read()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.inner.send_all(self.encrypt(data))

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        await self.inner.send_all(self.outgoing.read())
        await self.inner.send_eof()

    async def aclose(self) -> None:
        await self.inner.aclose()


async def tls_pair(
    client: trio.abc.HalfCloseableStream,
    server: ByteStream,
    *,
    buffers: TlsBuffers | None = None,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> tuple[TlsClient, TlsByteStream]:
    """Shake hands over both ends of a stream."""
    client_context, server_context = tls_contexts()
    client_context.maximum_version = version
    secured: list[TlsByteStream | None] = []
    peer = TlsClient.over(client, client_context)

    async def accept() -> None:
        secured.append(await shake_hands(server, server_context, buffers or TlsBuffers(), timeout_seconds=60))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        await peer.shake_hands()
    assert secured[0] is not None
    return peer, secured[0]


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
    tally: Tally | None = None,
    backlog: Backlog | None = None,
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
        tally=tally or Tally(),
        backlog=backlog or Backlog(),
    )
    return outbox, ended
