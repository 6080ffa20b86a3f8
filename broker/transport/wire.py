"""The bytes below the protocol: a stream that can also be written to without blocking."""

import os
from typing import Protocol

import trio


class Wire(Protocol):
    """Where an outbox writes to."""

    @property
    def is_progress_life(self) -> bool:
        """Whether a `send_all` that had to wait can only end because the peer has read something."""
        ...

    def write_nowait(self, data: bytes | memoryview) -> int:
        """Write what can be written at once; returns how many bytes that was.

        :raises trio.BrokenResourceError: if the peer is gone.
        """
        ...

    async def send_all(self, data: bytes) -> None:
        """Write everything.

        :raises trio.BrokenResourceError: if the peer is gone.
        :raises trio.ClosedResourceError: if the stream was closed here.
        """
        ...


class SocketWire:
    """A TCP connection. The kernel's buffer takes most frames at once, at a tenth of what a trio send costs."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._fileno = stream.socket.fileno

    @property
    def is_progress_life(self) -> bool:
        """See Wire: the kernel's buffer was full, and its space comes from what the peer has acknowledged."""
        return True

    def write_nowait(self, data: bytes | memoryview) -> int:
        """See Wire. trio's sockets are non-blocking; a closed one has the descriptor -1, never another's."""
        try:
            return os.write(self._fileno(), data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def send_all(self, data: bytes) -> None:
        """See Wire."""
        await self._stream.send_all(data)


class StreamWire:
    """Any other stream (TLS, memory): everything is written by a task."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    @property
    def is_progress_life(self) -> bool:
        """See Wire: nothing is known of what is below."""
        return False

    def write_nowait(self, data: bytes | memoryview) -> int:  # noqa: ARG002  # see Wire
        """See Wire: takes nothing."""
        return 0

    async def send_all(self, data: bytes) -> None:
        """See Wire."""
        await self._stream.send_all(data)


def open_wire(stream: trio.abc.Stream) -> Wire:
    """Return the best wire for a stream."""
    return SocketWire(stream) if isinstance(stream, trio.SocketStream) else StreamWire(stream)
