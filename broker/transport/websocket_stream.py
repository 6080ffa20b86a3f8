"""The stream given to trio-websocket, with the fast lane beside it."""

from collections.abc import Callable

import trio

from broker.transport.byte_stream import ByteStream
from broker.transport.frames import is_close_frame
from broker.transport.lane import TextLane
from broker.transport.outbox import Outbox
from broker.transport.pump import ByteSource
from broker.transport.streams import ReplayStream
from broker.transport.tracker import FrameTracker


class WebSocketStream(ReplayStream):
    """Gives trio-websocket what the lane does not take, and writes through the outbox, so that whole frames keep one order.

    The lane is open only while everything that came before has been dealt with: trio-websocket waits for more, it
    is not amid a message, and every message that it or the lane found has been handled. Behind a close frame
    trio-websocket waits for nothing.

    trio-websocket closes the stream while a task of its own may be reading, and nobody can linger then. So
    `aclose` is the end for trio-websocket only, and `finish` closes the socket once all its tasks are gone.
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
        """`on_frames` hears how many frames came that are no whole texts, `on_closed` that trio-websocket has closed it."""
        request, blank_line, self._behind_request = head.partition(b"\r\n\r\n")
        super().__init__(inner, request + blank_line)
        self._answered = trio.Event() if head else None  # None also once it does not matter any more
        self._outbox = outbox
        self._source = source
        self._on_frames = on_frames
        self._on_closed = on_closed
        self._tracker = FrameTracker()
        self._lane_messages = 0  # that are not handled within the lane
        self._handled_messages = 0
        self._lane: TextLane | None = None
        self._is_lane_wanted = False
        self._is_lane_open = False
        self.is_being_read = False
        """Whether somebody waits for what the peer sends; if not, it cannot be heard."""
        self.is_closed = False
        """Whether trio-websocket has closed it."""

    def use_lane(self, lane: TextLane) -> None:
        """Let a lane take messages from now on, as far as their order allows."""
        self._lane = lane
        self._is_lane_wanted = True
        self._open_lane_if_clear()

    def close_lane(self) -> None:
        """Let trio-websocket have everything from now on."""
        self._is_lane_wanted = False
        self._is_lane_open = False

    def pause_lane(self) -> None:
        """Let trio-websocket have what follows, until the message that the lane just found is handled."""
        self._lane_messages += 1
        self._is_lane_open = False

    def note_handled(self) -> None:
        """Count a message as handled that trio-websocket found, or that paused the lane."""
        self._handled_messages += 1
        self._open_lane_if_clear()

    def _open_lane_if_clear(self) -> None:
        tracker = self._tracker
        self._is_lane_open = (
            self._is_lane_wanted
            and tracker.is_between_messages
            and tracker.messages + self._lane_messages == self._handled_messages
        )

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See trio.abc.ReceiveStream: what the lane does not take."""
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
            # What trio-websocket 0.12 is given before, it looks at only when more comes.
            await self._answered.wait()
            self._answered = None
            behind, self._behind_request = self._behind_request, b""
            if behind:
                return self._pass(behind)
        self.is_being_read = True
        self._open_lane_if_clear()
        try:
            data = await self._source.receive(self._sift)
        finally:
            self.is_being_read = False
            self._is_lane_open = False
        self._is_ended_by_peer = not data
        return data or self._pass(b"")

    def _sift(self, data: bytes) -> bytes:
        """Let the lane have what came, if it may; returns what is trio-websocket's."""
        self.last_received = trio.current_time()
        if self._lane is not None and self._is_lane_open:
            data = self._lane.feed(data)
            if not data:
                return b""
            self._is_lane_open = False
        return self._pass(data)

    def _pass(self, data: bytes) -> bytes:
        """Return `data` behind what the lane still holds, and follow where that leads."""
        if self._lane is not None:
            data = self._lane.take_held() + data
        self._on_frames(self._tracker.feed(data))
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See trio.abc.SendStream. trio-websocket 0.12 writes whole frames, one or more at a time."""
        if self._answered is not None:
            self._answered.set()
        frames = bytes(data)
        # RFC 6455 section 5.5.1: no data frame after a close frame.
        await self._outbox.write(frames, is_last=is_close_frame(frames))

    async def aclose(self) -> None:
        """Let nobody read any more; the socket stays open until `finish`."""
        self.is_closed = True
        self._on_closed()
        await trio.lowlevel.checkpoint()

    async def finish(self) -> None:
        """Close the socket in good order; at once if cancelled."""
        self._outbox.close()
        await super().aclose()
