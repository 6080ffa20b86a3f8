"""The stream given to trio-websocket, with the fast path beside it."""

from collections.abc import Callable

import trio

from broker.transport.byte_stream import ByteStream
from broker.transport.fast_path import FastPath
from broker.transport.frame_boundaries import FrameBoundaries
from broker.transport.frames import is_close_frame
from broker.transport.outbox import Outbox
from broker.transport.pump import ByteSource
from broker.transport.streams import ReplayStream


class WebSocketStream(ReplayStream):
    """Reads for trio-websocket all that the fast path does not handle, and writes through the outbox, frame by frame.

    The fast path is open only while everything before has been handled: trio-websocket waits for more bytes, no
    message is incomplete, and every message found so far has been handled. Behind a close frame trio-websocket reads
    nothing.

    trio-websocket closes the stream while a task of its own may be reading, and nobody can linger then. So `aclose`
    is the end for trio-websocket only, and `finish` closes the socket once all its tasks are gone.
    """

    def __init__(
        self,
        inner: ByteStream,
        head: bytes,
        outbox: Outbox,
        source: ByteSource,
        *,
        on_frames: Callable[[int], None] = lambda _count: None,
        on_closed: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_frames` is called with the number of frames for trio-websocket, `on_closed` once that has closed the stream."""
        request, blank_line, self._behind_request = head.partition(b"\r\n\r\n")
        super().__init__(inner, request + blank_line)
        self._answered = trio.Event() if head else None  # None also once the answer was awaited
        self._outbox = outbox
        self._source = source
        self._on_frames = on_frames
        self._on_closed = on_closed
        self._boundaries = FrameBoundaries()
        self._deferred_messages = 0  # found by the fast path, handled by the connection's task
        self._handled_messages = 0
        self._fast_path: FastPath | None = None
        self._is_fast_path_wanted = False
        self._is_fast_path_open = False
        self.is_being_read = False
        """Whether a task waits for bytes of the peer; if none does, a sign of life may lie unread."""
        self.is_closed = False
        """Whether trio-websocket has closed it."""

    def use_fast_path(self, fast_path: FastPath) -> None:
        """Send messages through the fast path from now on, as far as their order allows."""
        self._fast_path = fast_path
        self._is_fast_path_wanted = True
        self._open_fast_path_if_clear()

    def close_fast_path(self) -> None:
        """Send everything to trio-websocket from now on."""
        self._is_fast_path_wanted = False
        self._is_fast_path_open = False

    def pause_fast_path(self) -> None:
        """Send what follows to trio-websocket, until the message that the fast path just found is handled."""
        self._deferred_messages += 1
        self._is_fast_path_open = False

    def note_handled(self) -> None:
        """Count a message as handled that trio-websocket found, or that paused the fast path."""
        self._handled_messages += 1
        self._open_fast_path_if_clear()

    def _open_fast_path_if_clear(self) -> None:
        boundaries = self._boundaries
        self._is_fast_path_open = (
            self._is_fast_path_wanted
            and boundaries.is_between_messages
            and boundaries.messages + self._deferred_messages == self._handled_messages
        )

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See trio.abc.ReceiveStream. The bytes of the fast path are left out."""
        if self.is_closed:
            raise trio.ClosedResourceError
        if self._head or self._is_ended_by_peer:
            await trio.lowlevel.checkpoint()
        else:
            self._head = await self._receive()
        passed, self._head = self._head[:max_bytes], self._head[max_bytes or len(self._head) :]
        return passed

    async def _receive(self) -> bytes:
        if self._answered is not None:
            # trio-websocket 0.12 would leave bytes given with the request unread until more come.
            await self._answered.wait()
            self._answered = None
            behind, self._behind_request = self._behind_request, b""
            if behind:
                return self._pass_on(behind)
        self.is_being_read = True
        self._open_fast_path_if_clear()
        try:
            data = await self._source.receive(self._process)
        finally:
            self.is_being_read = False
            self._is_fast_path_open = False
        self._is_ended_by_peer = not data
        return data or self._pass_on(b"")

    def _process(self, data: bytes) -> bytes:
        """Handle in the fast path what it can; returns the bytes that are trio-websocket's."""
        self.last_received = trio.current_time()
        if self._fast_path is not None and self._is_fast_path_open:
            data = self._fast_path.feed(data)
            if not data:
                return b""
            self._is_fast_path_open = False
        return self._pass_on(data)

    def _pass_on(self, data: bytes) -> bytes:
        """Return `data` behind the incomplete frame that the fast path holds, and count its frames."""
        if self._fast_path is not None:
            data = self._fast_path.take_held() + data
        self._on_frames(self._boundaries.feed(data))
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See trio.abc.SendStream. trio-websocket 0.12 writes whole frames, one or more at a time."""
        if self._answered is not None:
            self._answered.set()
        frames = bytes(data)
        # RFC 6455 section 5.5.1: no data frame after a close frame.
        await self._outbox.write(frames, is_last=is_close_frame(frames))

    async def aclose(self) -> None:
        """End reading; the socket stays open until `finish`."""
        self.is_closed = True
        self._on_closed()
        await trio.lowlevel.checkpoint()

    async def finish(self) -> None:
        """Close the socket in good order; at once if cancelled."""
        self._outbox.close()
        await super().aclose()
