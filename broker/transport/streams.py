"""The stream given to hypercorn: a request head put back, and an end that loses nothing written."""

from collections.abc import Awaitable, Callable

import trio

from broker.transport.byte_stream import ByteStream, Endpoint

LINGER_SECONDS = 1.0
LINGER_READ_BYTES = 65_536


class ReplayStream(trio.abc.Stream):
    """Brings `head` before the bytes of the inner stream, keeps the time of the last bytes received, and lingers.

    Closing a socket with bytes unread makes the kernel send a reset, which can destroy the last bytes written, such as
    a close frame or an error response. So `aclose` first ends its own side and reads until the peer ends its side, for
    LINGER_SECONDS at most (RFC 9112 section 9.6).
    """

    def __init__(
        self,
        inner: ByteStream,
        head: bytes,
        *,
        check_head: Callable[[bytes], int | None] = lambda _head: None,
        find_handler: Callable[[bytes], Callable[[], Awaitable[None]] | None] = lambda _request: None,
        find_client: Callable[[bytes], str | None] | None = None,
    ) -> None:
        self._inner = inner
        self.check_head = check_head
        """Returns the status that refuses a request, given its head; None if it is good."""
        self.find_client = find_client
        """Returns the client that a request's head names; None if it names none. It is None itself if the peer is no proxy."""
        self._find_handler = find_handler
        self._head = head
        self._is_closing = False
        self._is_ended_by_peer = False
        self.last_received = trio.current_time()

    def find_handler(self, request: bytes) -> Callable[[], Awaitable[None]] | None:
        """Return the handler that serves the inner stream from `request` on; None if the reader of this one goes on.

        `request` is a head and everything that was read behind it.
        """
        handler = self._find_handler(request + self._head)
        if handler is not None:
            self._head = b""
        return handler

    def endpoints(self) -> tuple[Endpoint | None, Endpoint | None]:
        """See ByteStream."""
        return self._inner.endpoints()

    @property
    def descriptor(self) -> int | None:
        """See ByteStream."""
        return self._inner.descriptor

    @property
    def is_tls(self) -> bool:
        """See ByteStream."""
        return self._inner.is_tls

    @property
    def has_client_certificate(self) -> bool:
        """See ByteStream."""
        return self._inner.has_client_certificate

    def has_peer_ended(self) -> bool:
        """See ByteStream."""
        return self._inner.has_peer_ended()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See trio.abc.ReceiveStream."""
        if self._head:
            await trio.lowlevel.checkpoint()
            head, self._head = self._head[:max_bytes], self._head[max_bytes or len(self._head) :]
            return head
        data = await self._inner.receive_some(max_bytes)
        if data:
            self.last_received = trio.current_time()
        else:
            self._is_ended_by_peer = True
        return data

    def put_back(self, data: bytes) -> None:
        """Let the next reads return `data` before anything else."""
        self._head = data + self._head

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See trio.abc.SendStream."""
        await self._inner.send_all(data)

    def write_nowait(self, data: bytes | memoryview) -> int:
        """See ByteStream."""
        return self._inner.write_nowait(data)

    async def wait_send_all_might_not_block(self) -> None:
        """See trio.abc.SendStream."""
        await self._inner.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """See trio.abc.HalfCloseableStream."""
        await self._inner.send_eof()

    async def aclose(self) -> None:
        """Close in good order; at once if cancelled. A second call does not hurry the first."""
        if self._is_closing:
            await trio.lowlevel.checkpoint()
            return
        self._is_closing = True
        try:
            if not self._is_ended_by_peer:
                await self._linger()
        finally:
            await trio.aclose_forcefully(self._inner)

    def abort(self) -> None:
        """See ByteStream."""
        self._is_closing = True
        self._inner.abort()

    async def _linger(self) -> None:
        with trio.move_on_after(LINGER_SECONDS):
            try:
                await self._inner.send_eof()
                while await self._inner.receive_some(LINGER_READ_BYTES):
                    pass
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
                # Gone, aborted, or another task is reading.
                return
