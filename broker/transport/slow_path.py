"""The slow path: trio-websocket, for the frames that the fast path does not handle.

It is opened when the first of them comes: trio-websocket is given a canonical opening handshake, whose answer is
discarded, as the client has had its own, and then the bytes. It stays open, but rests between messages: then the fast
path handles frames.
"""

from collections.abc import Callable

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream
from wsproto.utilities import LocalProtocolError

from broker.transport.closed import ABNORMAL, NO_STATUS, Closed
from broker.transport.deflate.plain_frames import PlainFrames
from broker.transport.frame_boundaries import FrameBoundaries
from broker.transport.frames import is_close_frame
from broker.transport.outbox import Outbox

RECEIVE_BYTES = 1024
"""Limit of the bytes given to trio-websocket at once: it handles all frames in them, some 20 µs each, before another
task runs, and a frame may be 7 bytes."""

_REQUEST = (
    b"GET / HTTP/1.1\r\nHost: greenroom\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class SlowPath(trio.abc.Stream):
    """trio-websocket for one connection; also the stream that it reads, and through which it writes to the outbox.

    trio-websocket has no queue of its own here: over a message that is too big it would discard the messages in it,
    which were whole before (RFC 6455 section 7.1.7 ends what comes behind the failure, and no more).
    """

    def __init__(
        self,
        outbox: Outbox,
        boundaries: FrameBoundaries,
        *,
        put: Callable[[str | bytes], bool],
        on_waiting: Callable[[], None],
        on_closed: Callable[[Closed], None],
        plain_frames: PlainFrames | None = None,
    ) -> None:
        """`boundaries` is to follow all bytes that are fed. `plain_frames` rewrites them, if some may be compressed.

        `put` is given each message, in order, and returns whether the next may follow at once; if not, it follows
        `release`. `on_waiting` is called when trio-websocket waits for more bytes, and `on_closed` behind all
        messages, unless `cancel` was called.
        """
        self._outbox = outbox
        self._boundaries = boundaries
        self._put = put
        self._on_waiting = on_waiting
        self._on_closed = on_closed
        self._plain_frames = plain_frames
        self._failure: Closed | None = None
        """How to close over what cannot be rewritten, once trio-websocket has handled what came before."""
        self._connection: WebSocketConnection | None = None
        self._answer: Closed | None = None
        """What the first close frame of trio-websocket says."""
        self._running = trio.CancelScope()
        self._fed = b""
        self._is_asked = False
        self._is_answered = False
        self.is_waiting = False
        """Whether trio-websocket waits for more bytes."""
        self._is_ended = False
        self._is_closed = False
        self._changed = trio.lowlevel.ParkingLot()
        self._released = trio.lowlevel.ParkingLot()
        self._found_messages = 0

    @property
    def is_resting(self) -> bool:
        """Whether trio-websocket waits between two messages, and all that it found have been put.

        Behind a close frame it never rests.
        """
        boundaries = self._boundaries
        return (
            self.is_waiting
            and boundaries.is_between_messages
            and boundaries.messages == self._found_messages
            and not self._is_ended
        )

    async def run(self, limit_bytes: int) -> None:
        """Run trio-websocket until it has closed, or `cancel`."""
        try:
            with self._running:
                async with trio.open_nursery() as nursery:
                    request = await wrap_server_stream(
                        nursery,
                        self,
                        message_queue_size=0,
                        max_message_size=limit_bytes,
                        receive_buffer_size=RECEIVE_BYTES,
                    )
                    self._connection = await request.accept()
                    await self._pass_on(self._connection)
        except* (LocalProtocolError, ConnectionClosed):
            # The reader of trio-websocket 0.12.2 fails over a frame behind the close frame that it has sent.
            pass
        if not self._running.cancel_called:
            self._on_closed(self._find_closed())

    def _find_closed(self) -> Closed:
        """Return how trio-websocket has closed: as it has said itself, if it has.

        Behind a message that is too big it reads on, and may find that an invalid frame was the reason.
        """
        reason = None if self._connection is None else self._connection.closed
        if self._answer is not None or self._failure is not None or reason is None:
            return self._answer or self._failure or Closed(ABNORMAL, "")
        return Closed(int(reason.code), reason.reason or "")

    async def _pass_on(self, connection: WebSocketConnection) -> None:
        """Put each message that trio-websocket finds, until it has closed.

        :raises ConnectionClosed: then.
        """
        while True:
            message: str | bytes = await connection.get_message()
            self._found_messages += 1
            if not self._put(message):
                await self._released.park()

    def release(self) -> None:
        """Let the next message follow one behind which there was no space."""
        self._released.unpark_all()

    def cancel(self) -> None:
        """End trio-websocket: it reads and writes nothing more."""
        self._running.cancel()

    def feed(self, data: bytes) -> None:
        """Give `data` to trio-websocket; nothing stands for the end of the stream."""
        self._fed += data
        self._is_ended = not data
        self.is_waiting = False
        self._changed.unpark_all()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See trio.abc.ReceiveStream."""
        if self._is_closed:
            raise trio.ClosedResourceError
        await trio.lowlevel.checkpoint()
        if not self._is_asked:
            self._is_asked = True
            return _REQUEST
        # Bytes that come with the request are handled by trio-websocket 0.12 only when more come.
        while not self._is_answered:
            await self._changed.park()
        passed = b""
        while not passed:
            while not (self._fed or self._is_ended or self._failure):
                self.is_waiting = True
                self._on_waiting()
                await self._changed.park()
            if not self._fed or self._failure is not None:
                return b""
            passed, self._fed = self._fed[:max_bytes], self._fed[max_bytes or len(self._fed) :]
            if self._plain_frames is not None:
                passed = self._rewrite(self._plain_frames, passed)
        return passed

    def _rewrite(self, plain_frames: PlainFrames, data: bytes) -> bytes:
        rewritten = plain_frames.feed(data)
        if plain_frames.failure is not None:
            self._failure = Closed(int(plain_frames.failure.code), plain_frames.failure.reason)
            self._is_ended = True
        return rewritten

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See trio.abc.SendStream. trio-websocket 0.12 writes its answer, and then whole frames, one or more at a time."""
        if not self._is_answered:
            self._is_answered = True
            self._changed.unpark_all()
            await trio.lowlevel.checkpoint()
            return
        frames = bytes(data)
        is_last = is_close_frame(frames)
        if is_last and self._answer is None:
            self._answer = _read_close(frames)
        # RFC 6455 section 5.5.1: no data frame after a close frame.
        await self._outbox.write(frames, is_last=is_last)

    async def wait_send_all_might_not_block(self) -> None:
        """See trio.abc.SendStream; trio-websocket 0.12 does not call it."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Let trio-websocket read nothing more; the connection closes the socket."""
        self._is_closed = True
        await trio.lowlevel.checkpoint()


def _read_close(frame: bytes) -> Closed:
    """Return code and reason of a close frame of our own (RFC 6455 section 5.5.1)."""
    payload = frame[2 : 2 + frame[1]]
    return Closed(int.from_bytes(payload[:2], "big") if payload else NO_STATUS, payload[2:].decode())
