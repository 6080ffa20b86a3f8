"""The bytes under a connection: one interface, with an implementation for each kind of stream that carries them.

Nothing above asks which kind it has. A kind without a descriptor, or without writes that return at once, says so in
`descriptor` and `write_nowait`, and is read and written by tasks. One whose descriptor brings other bytes than its own,
as TLS does, has a decoder for them.
"""

import os
import select
from abc import abstractmethod
from typing import TYPE_CHECKING, Generic, Protocol, TypeAlias, TypeVar

import trio

from broker.transport.listening import peer_address

if TYPE_CHECKING:
    from trio.testing import MemoryReceiveStream, MemorySendStream

Endpoint: TypeAlias = tuple[str, int]
"""Host and port."""

StreamT = TypeVar("StreamT", bound=trio.abc.HalfCloseableStream)


class ByteDecoder(Protocol):
    """Turns what a descriptor brings into the bytes of the stream, in order."""

    def feed(self, data: bytes) -> None:
        """Take what was read from the descriptor; nothing stands for its end. Never raises."""

    def take(self) -> bytes | None:
        """Return all bytes of the stream that have come, b"" at its end, None if there are none yet."""

    @property
    def has_any(self) -> bool:
        """Whether `take` would return bytes or the end."""


class ByteStream(trio.abc.HalfCloseableStream):
    """The stream of one connection, and all else that is asked of it.

    `send_eof` ends the own side, and `aclose` closes both sides without waiting for the peer.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def peer_address(self) -> str:
        """The peer for limits and log lines: an IP address, or `unix`."""

    @abstractmethod
    def set_client(self, client: Endpoint) -> None:
        """Let the stream have this peer, whom a trusted proxy has named in place of itself."""

    @property
    @abstractmethod
    def descriptor(self) -> int | None:
        """Descriptor that brings the bytes, for a reader of many at once; -1 once closed, None if there is none."""

    @property
    def decoder(self) -> ByteDecoder | None:
        """Takes what is read from the descriptor; None if these are the very bytes of the stream."""
        return None

    @property
    def is_tls(self) -> bool:
        """Whether the peer has shaken hands for TLS; if not, all is in clear text."""
        return False

    @property
    def has_client_certificate(self) -> bool:
        """Whether the peer has a certificate that is signed by an authority of `server.tls_client_ca_file`."""
        return False

    @property
    @abstractmethod
    def is_acknowledged(self) -> bool:
        """Whether a `send_all` that has to wait ends only when the peer's side has acknowledged some of what it was sent."""

    @abstractmethod
    def endpoints(self) -> tuple[Endpoint | None, Endpoint | None]:
        """Return host and port of the peer, and of this side; None where there are none (a Unix socket, memory).

        :raises OSError: if the peer is gone.
        """

    @abstractmethod
    def write_nowait(self, data: bytes | memoryview) -> int:
        """Write what can be written at once; returns how many bytes that was, 0 if a task has to write.

        The next write has to begin with the bytes that are left.

        :raises trio.BrokenResourceError: if the peer is gone, or the stream is closed.
        """

    @abstractmethod
    def has_peer_ended(self) -> bool:
        """Whether the peer has ended its side, as far as that shows without reading; always once closed."""

    @abstractmethod
    def abort(self) -> None:
        """Close both sides at once; whoever reads or writes gets ClosedResourceError."""


class _TrioByteStream(ByteStream, Generic[StreamT]):
    """Passes on to a trio stream; each kind adds what trio's streams do not have."""

    __slots__ = ("_client", "_peer_address", "_stream")

    def __init__(self, stream: StreamT, peer_address: str) -> None:
        self._stream = stream
        self._peer_address = peer_address
        self._client: Endpoint | None = None
        """The peer in place of the proxy."""

    @property
    def peer_address(self) -> str:
        """See ByteStream."""
        return self._peer_address

    def set_client(self, client: Endpoint) -> None:
        """See ByteStream."""
        self._client = client
        self._peer_address = client[0]

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See trio.abc.ReceiveStream."""
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See trio.abc.SendStream."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """See trio.abc.SendStream."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """See trio.abc.HalfCloseableStream."""
        await self._stream.send_eof()


class SocketByteStream(_TrioByteStream[trio.SocketStream]):
    """A connected TCP or Unix socket.

    The kernel's buffer takes most writes at once, at a tenth of what a send by a task costs.
    """

    __slots__ = ("_descriptor",)

    def __init__(self, stream: trio.SocketStream, peer_address: str) -> None:
        super().__init__(stream, peer_address)
        # Another connection may get the same number once the socket is closed, so it is forgotten before.
        self._descriptor = stream.socket.fileno()

    @classmethod
    def accepted(cls, stream: trio.SocketStream) -> "SocketByteStream":
        """Return the stream of an accepted connection.

        :raises OSError: if the peer has reset it already.
        """
        return cls(stream, peer_address(stream.socket.getpeername()))

    @property
    def descriptor(self) -> int:
        """See ByteStream."""
        return self._descriptor

    @property
    def is_acknowledged(self) -> bool:
        """See ByteStream: the kernel's buffer was full, and its space comes from what the peer has acknowledged."""
        return True

    def endpoints(self) -> tuple[Endpoint | None, Endpoint | None]:
        """See ByteStream."""
        peer = self._stream.socket.getpeername()
        return self._client or _endpoint(peer), _endpoint(self._stream.socket.getsockname())

    def write_nowait(self, data: bytes | memoryview) -> int:
        """See ByteStream. trio's sockets are non-blocking; the system refuses the descriptor of a closed one, -1."""
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    def has_peer_ended(self) -> bool:
        """See ByteStream. Elsewhere than on Linux this shows only a reset."""
        if self._descriptor < 0:
            return True
        poll = select.poll()
        poll.register(self._descriptor, getattr(select, "POLLRDHUP", 0))
        return bool(poll.poll(0))

    def abort(self) -> None:
        """See ByteStream."""
        self._descriptor = -1
        self._stream.socket.close()

    async def aclose(self) -> None:
        """See trio.abc.AsyncResource."""
        self._descriptor = -1
        await self._stream.aclose()


class MemoryByteStream(_TrioByteStream["trio.StapledStream[MemorySendStream, MemoryReceiveStream]"]):
    """One end of `trio.testing.memory_stream_pair`, for peers in this process."""

    def __init__(
        self, stream: "trio.StapledStream[MemorySendStream, MemoryReceiveStream]", peer_address: str
    ) -> None:
        super().__init__(stream, peer_address)
        self._is_closed = False

    @property
    def descriptor(self) -> None:
        """See ByteStream: there is none."""
        return

    @property
    def is_acknowledged(self) -> bool:
        """See ByteStream: a write waits for no peer here."""
        return False

    def endpoints(self) -> tuple[Endpoint | None, None]:
        """See ByteStream."""
        return self._client, None

    def write_nowait(self, data: bytes | memoryview) -> int:  # noqa: ARG002  # see ByteStream
        """See ByteStream: a task has to write."""
        return 0

    def has_peer_ended(self) -> bool:
        """See ByteStream: it does not show."""
        return self._is_closed

    def abort(self) -> None:
        """See ByteStream."""
        self._is_closed = True
        self._stream.send_stream.close()
        self._stream.receive_stream.close()

    async def aclose(self) -> None:
        """See trio.abc.AsyncResource."""
        self._is_closed = True
        await self._stream.aclose()


def _endpoint(name: object) -> Endpoint | None:
    """Return host and port of what `getpeername` or `getsockname` says."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
