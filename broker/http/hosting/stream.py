"""Hypercorn's stream, on which no write waits for ever and closing loses nothing that was written."""

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from broker.wakeup import Wakeup


class HttpTransport(Protocol):
    """A stream that can also be closed at once, with its endpoints and the checks of its requests."""

    def endpoints(self) -> tuple[tuple[str, int] | None, tuple[str, int] | None]:
        """Return host and port of the client, and of this side; None where there are none, as of a Unix socket.

        :raises OSError: if the client is gone.
        """
        ...

    @property
    def descriptor(self) -> int | None:
        """Descriptor of the socket; -1 once closed, None if there is none that brings these very bytes."""
        ...

    @property
    def is_tls(self) -> bool:
        """Whether the client has shaken hands for TLS."""
        ...

    @property
    def has_client_certificate(self) -> bool:
        """Whether the client has a certificate that is signed by an authority that the server trusts."""
        ...

    def has_peer_ended(self) -> bool:
        """Whether the client has ended its side, as far as that shows without reading; always once closed."""
        ...

    @property
    def check_head(self) -> Callable[[bytes], int | None]:
        """Returns the status that refuses a request, given its head or how it begins; None if it is good."""
        ...

    @property
    def find_client(self) -> Callable[[bytes], str | None] | None:
        """Returns the client that a request's head names; None if it names none. It is None itself if the peer is no proxy."""
        ...

    def find_handler(self, request: bytes) -> Callable[[], Awaitable[None]] | None:
        """Return the handler of the connection from `request` on, None if it is HTTP.

        `request` is a head and all bytes read behind it.
        """
        ...

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See trio.abc.ReceiveStream."""
        ...

    def put_back(self, data: bytes) -> None:
        """Let the next reads return `data` before anything else."""
        ...

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See trio.abc.SendStream."""
        ...

    def write_nowait(self, data: bytes) -> int:
        """Write what can be written at once; returns how many bytes that was.

        :raises trio.BrokenResourceError: if the client is gone, or the stream is closed.
        """
        ...

    async def send_eof(self) -> None:
        """See trio.abc.HalfCloseableStream."""
        ...

    async def aclose(self) -> None:
        """Close in good order; at once if cancelled."""
        ...

    def abort(self) -> None:
        """Close at once; pending reads and writes raise ClosedResourceError."""
        ...


class HttpStream:
    """Bounds hypercorn 0.18's writes, which it shields from cancellation without a deadline.

    A write that fails, or takes longer than `write_seconds`, calls `on_broken`: no answer can be sent any more.
    """

    def __init__(self, inner: HttpTransport, *, write_seconds: float, on_broken: Callable[[], None]) -> None:
        self._inner = inner
        self._write_seconds = write_seconds
        self._on_broken = on_broken
        self._is_closing = False
        self._reading: trio.CancelScope | None = None
        self._reader_gone = Wakeup()

    def note_reset(self) -> None:
        """Note that the client has reset the connection: both sides have ended."""
        self._on_broken()

    def check_head(self, head: bytes) -> int | None:
        """See HttpTransport."""
        return self._inner.check_head(head)

    @property
    def find_client(self) -> Callable[[bytes], str | None] | None:
        """See HttpTransport."""
        return self._inner.find_client

    def find_handler(self, request: bytes) -> Callable[[], Awaitable[None]] | None:
        """See HttpTransport. A connection that is being closed is not handed over."""
        return None if self._is_closing else self._inner.find_handler(request)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See trio.abc.ReceiveStream.

        :raises trio.ClosedResourceError: if it is being closed, also while this waits.
        :raises trio.BrokenResourceError: if the peer reset it.
        """
        data: bytes | bytearray | None = None
        if not self._is_closing:
            with trio.CancelScope() as scope:
                self._reading = scope
                try:
                    data = await self._inner.receive_some(max_bytes)
                except trio.BrokenResourceError:
                    # A reset ends both sides, unlike an end of stream.
                    self._on_broken()
                    raise
                finally:
                    self._reading = None
                    self._reader_gone.set()
        if data is None:
            raise trio.ClosedResourceError("the connection is being closed")
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See trio.abc.SendStream.

        :raises trio.BrokenResourceError: also if the peer has not taken everything in time, or it is being closed.
        """
        if self._is_closing:
            raise trio.BrokenResourceError("the connection is being closed")
        try:
            with trio.fail_after(self._write_seconds):
                await self._inner.send_all(data)
        except (trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._on_broken()
            raise trio.BrokenResourceError("the peer is gone, or does not read") from error

    async def send_eof(self) -> None:
        """See trio.abc.HalfCloseableStream. Hypercorn does this only to close."""
        self._is_closing = True
        await self._inner.send_eof()

    async def aclose(self) -> None:
        """Close in good order; at once if cancelled.

        Hypercorn's reader is stopped first: bytes that the peer still sends must be read and dropped here, or the kernel
        resets the connection and the last answer is lost (RFC 9112 section 9.6).
        """
        self._is_closing = True
        try:
            if self._reading is not None:
                self._reader_gone.clear()
                self._reading.cancel()
                await self._reader_gone.wait()
        finally:
            await self._inner.aclose()
