"""The slow path: trio-websocket, for the frames that the fast path does not handle.

It is opened when the first of them comes: trio-websocket is given a canonical opening handshake, whose answer is
discarded, as the client has had its own, and then the bytes. It stays open, but rests between messages: then the fast
path handles frames.
"""

from collections.abc import Callable

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream
from wsproto.utilities import LocalProtocolError

from broker.transport.frame_boundaries import FrameBoundaries
from broker.transport.frames import is_close_frame
from broker.transport.outbox import Outbox

QUEUED_MESSAGES = 16
"""Messages that are read ahead, by either path. While so many are queued, pings and close frames are not read either."""

RECEIVE_BYTES = 1024
"""Limit of the bytes given to trio-websocket at once: it handles all frames in them, some 20 µs each, before another
task runs, and a frame may be 7 bytes."""

_REQUEST = (
    b"GET / HTTP/1.1\r\nHost: greenroom\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@attrs.frozen
class Closed:
    """How the peer, or trio-websocket over an invalid frame, has closed."""

    code: int
    reason: str


class SlowPath(trio.abc.Stream):
    """trio-websocket for one connection; also the stream that it reads, and through which it writes to the outbox."""

    def __init__(self, outbox: Outbox, boundaries: FrameBoundaries, read_on: Callable[[], None]) -> None:
        """`boundaries` is to follow all bytes that are fed; `read_on` is called when trio-websocket waits for more."""
        self._outbox = outbox
        self._boundaries = boundaries
        self._read_on = read_on
        self._connection: WebSocketConnection | None = None
        self._opened = trio.Event()
        self._running = trio.CancelScope()
        self._receiving = trio.CancelScope()
        self._fed = b""
        self._is_asked = False
        self._is_answered = False
        self._is_waiting = False  # for more bytes
        self._is_ended = False
        self._is_closed = False
        self._changed = trio.lowlevel.ParkingLot()
        self._handled_messages = 0
        self._is_handling = False

    @property
    def is_resting(self) -> bool:
        """Whether trio-websocket waits between two messages, and all that it found have been handled.

        Behind a close frame it never rests.
        """
        boundaries = self._boundaries
        return (
            self._is_waiting
            and boundaries.is_between_messages
            and boundaries.messages == self._handled_messages
            and not self._is_ended
        )

    @property
    def closed(self) -> Closed | None:
        """How trio-websocket has closed; it may still have messages that came before."""
        reason = None if self._connection is None else self._connection.closed
        return None if reason is None else Closed(int(reason.code), reason.reason or "")

    async def run(self, limit_bytes: int) -> None:
        """Run trio-websocket until it has closed, or `cancel`."""
        try:
            with self._running:
                async with trio.open_nursery() as nursery:
                    request = await wrap_server_stream(
                        nursery,
                        self,
                        message_queue_size=QUEUED_MESSAGES,
                        max_message_size=limit_bytes,
                        receive_buffer_size=RECEIVE_BYTES,
                    )
                    self._connection = await request.accept()
                    self._opened.set()
        except* (LocalProtocolError, ConnectionClosed):
            # The reader of trio-websocket 0.12.2 fails over a frame behind the close frame that it has sent.
            pass

    def cancel(self) -> None:
        """End trio-websocket: it reads and writes nothing more."""
        self._running.cancel()

    def feed(self, data: bytes) -> None:
        """Give `data` to trio-websocket; nothing stands for the end of the stream."""
        self._fed += data
        self._is_ended = not data
        self._is_waiting = False
        self._changed.unpark_all()

    async def receive(self) -> str | bytes | None:
        """Return the next message; None once the slow path rests, or after `interrupt`.

        The message returned before counts as handled by now.

        :raises ConnectionClosed: once trio-websocket has closed, behind all messages.
        """
        self._handled_messages += self._is_handling
        self._is_handling = False
        with trio.CancelScope() as self._receiving:
            await self._opened.wait()
            if self.is_resting:
                return None
            assert self._connection is not None
            message: str | bytes = await self._connection.get_message()
            self._is_handling = True
            return message
        return None

    def interrupt(self) -> None:
        """Let `receive` return None."""
        self._receiving.cancel()

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
        while not self._fed and not self._is_ended:
            self._wait_for_more()
            await self._changed.park()
        passed, self._fed = self._fed[:max_bytes], self._fed[max_bytes or len(self._fed) :]
        return passed

    def _wait_for_more(self) -> None:
        self._is_waiting = True
        if self.is_resting:
            self._receiving.cancel()
        self._read_on()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See trio.abc.SendStream. trio-websocket 0.12 writes its answer, and then whole frames, one or more at a time."""
        if not self._is_answered:
            self._is_answered = True
            self._changed.unpark_all()
            await trio.lowlevel.checkpoint()
            return
        frames = bytes(data)
        # RFC 6455 section 5.5.1: no data frame after a close frame.
        await self._outbox.write(frames, is_last=is_close_frame(frames))

    async def wait_send_all_might_not_block(self) -> None:
        """See trio.abc.SendStream; trio-websocket 0.12 does not call it."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Let trio-websocket read nothing more; the connection closes the socket."""
        self._is_closed = True
        await trio.lowlevel.checkpoint()
