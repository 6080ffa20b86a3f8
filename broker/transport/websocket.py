"""One WebSocket, from behind its opening handshake to its end: the fast path, and the slow path where that is needed.

The connection's own task waits here for the messages that have to wait themselves. All others are handled as they are
read, by the task that reads for all connections (see pump).
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import trio

from broker.clocks import Clock
from broker.errors import CloseCode
from broker.sessions.memberships import Rest
from broker.transport.byte_stream import ByteStream
from broker.transport.closed import ABNORMAL, NO_STATUS, Closed
from broker.transport.deflate.inflation import inflate_message
from broker.transport.deflate.plain_frames import PlainFrames
from broker.transport.fast_path import FastPath
from broker.transport.frame_boundaries import FrameBoundaries
from broker.transport.frames import CLOSE_OPCODE, PING_OPCODE, PONG_OPCODE, close_frame, control_frame
from broker.transport.outbox import Outbox
from broker.transport.pump import Pump, StartTask, open_reader
from broker.transport.streams import ReplayStream

if TYPE_CHECKING:
    from broker.transport.slow_path import SlowPath

QUEUED_MESSAGES = 16
"""Messages that are read ahead, by either path. While so many are queued, pings and close frames are not read either."""

_INVALID_CODES = (CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_UTF8, CloseCode.MESSAGE_TOO_BIG)
_ORDINARY_CODES = frozenset((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, *range(3000, 5000)))
"""Close codes that a peer may send beyond doubt (RFC 6455 section 7.4)."""


class WebSocket:
    """Handles frames while the connection's task waits in `receive`, queues messages while that task is busy.

    Nothing is read before `start`.
    """

    __slots__ = (
        "_boundaries",
        "_clock",
        "_closed",
        "_fail",
        "_fast",
        "_handle_nowait",
        "_has_fast_path",
        "_inflates",
        "_inner",
        "_is_answer_queued",
        "_is_ended_by_peer",
        "_is_full",
        "_is_stopped",
        "_limit_bytes",
        "_on_frames",
        "_outbox",
        "_queue",
        "_reader",
        "_slow",
        "_start_task",
        "_unread",
        "_waiter",
        "_writing",
        "last_received",
    )

    def __init__(
        self,
        inner: ByteStream,
        outbox: Outbox,
        pump: Pump | None,
        *,
        limit_bytes: int,
        handle_nowait: Callable[[str], Rest | None],
        on_frames: Callable[[int], None],
        start_task: StartTask,
        fail: Callable[[Exception], None],
        clock: Clock = trio.current_time,
        has_fast_path: bool = True,
        inflates: bool = False,
    ) -> None:
        """`handle_nowait` handles a message as far as it can without waiting, and returns the rest; it must not raise.

        `on_frames` is called with the number of frames that are no text messages of one frame, `fail` with an error
        of ours in what is read. Without its fast path a WebSocket does the same, more slowly. With `inflates`, messages
        may be compressed, as was agreed on.
        """
        self._inner = inner
        self._outbox = outbox
        self._limit_bytes = limit_bytes
        self._handle_nowait = handle_nowait
        self._on_frames = on_frames
        self._start_task = start_task
        self._fail = fail
        self._has_fast_path = has_fast_path
        self._reader = open_reader(inner, pump, self._take, start_task)
        self._inflates = inflates
        inflate = partial(inflate_message, limit_bytes=limit_bytes) if inflates else None
        self._fast = FastPath(limit_bytes, self._handle_text, self._handle_control, inflate)
        self._slow: SlowPath | None = None
        self._boundaries: FrameBoundaries | None = None
        """Of the bytes that are not the fast path's."""
        self._queue: list[str | bytes | Rest] = []
        self._is_full = False
        self._unread = b""
        """Bytes behind a full queue, or behind a turn of many frames."""
        self._waiter: trio.lowlevel.Task | None = None
        """The connection's task while it waits."""
        self._writing: trio.CancelScope | None = None
        self._is_answer_queued = False
        self._is_stopped = False
        self._is_ended_by_peer = False
        self._closed: Closed | None = None
        self._clock = clock
        self.last_received = clock()
        """When the peer was last heard (trio time)."""

    @property
    def is_being_read(self) -> bool:
        """Whether the peer's bytes are read; if not, its pongs lie unread."""
        return self._reader.is_reading

    @property
    def closed(self) -> Closed | None:
        """How the WebSocket was closed, if it was not by `close`."""
        return self._closed

    def start(self, behind: bytes) -> None:
        """Begin to read, with the bytes that came behind the opening handshake."""
        self._reader.resume()
        if behind:
            self._take(behind)

    async def receive(self) -> str | bytes | Rest | None:
        """Return the next message that has to be handled by the caller, or the rest of one; None at the end.

        At the end the peer has closed, or the slow path has over an invalid frame (`closed` says how), behind all
        messages that were whole before; or `stop` was called.
        """
        while not self._is_stopped:
            if self._is_full:
                await trio.lowlevel.checkpoint()
                message = self._queue.pop(0)
                self._read_on()
                return message
            if self._queue:
                return self._queue.pop(0)
            if self._closed is not None:
                await self._wait_answered()
                return None
            self._waiter = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort_wait)
        return None

    async def _wait_answered(self) -> None:
        """Wait until the answer to a close frame is written, behind all that the peer has yet to read, or for `stop`."""
        if self._is_answer_queued:
            with trio.CancelScope() as self._writing:
                await self._outbox.wait_written()

    def stop(self) -> None:
        """Let `receive` return None, and handle nothing more of what the peer sends."""
        self._is_stopped = True
        if self._writing is not None:
            self._writing.cancel()
        self._wake()

    async def close(self, code: int, reason: str) -> None:
        """Close with a code, behind all that is queued, and wait until the peer closes too; it may have closed first.

        Returns at once if the connection is lost.
        """
        self._is_stopped = True
        closed = self.closed
        if closed is not None:
            if closed.code in _INVALID_CODES:
                # RFC 6455 section 7.1.7; trio-websocket does not, but for a plain message that is too big. Nothing is
                # queued behind its close frame, nor if the code is the peer's own, whose close frame has been answered.
                self._outbox.put_last(close_frame(closed.code, closed.reason))
                await self._outbox.wait_written()
            return
        if self._slow is not None:
            self._slow.cancel()
        self._follow(b"")
        self._outbox.put_last(close_frame(code, reason))
        if not await self._outbox.wait_written():
            return
        if not self._is_ended_by_peer:
            self._reader.resume()
        while not self._is_ended_by_peer and not self._boundaries_of_rest().has_close:
            self._waiter = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort_wait)

    def end_reading(self) -> None:
        """Read nothing more."""
        self._is_stopped = True
        self._reader.pause()

    async def finish(self) -> None:
        """Close the socket in good order, once the tasks of this connection are gone; at once if cancelled."""
        if self._is_ended_by_peer:
            await trio.aclose_forcefully(self._inner)
        else:
            await ReplayStream(self._inner, b"").aclose()

    # What is read

    def _take(self, data: bytes) -> None:
        """Handle a read, in whichever task it is made."""
        try:
            if data:
                self.last_received = self._clock()
                self._dispatch(data)
            else:
                self._note_end_of_stream()
        except Exception as error:  # noqa: BLE001  # this connection's, and no other's
            self._fail(error)

    def _dispatch(self, data: bytes) -> None:
        slow = self._slow
        if self._is_stopped:
            self._follow(data)
        elif slow is not None and not slow.is_resting:
            self._feed_slowly(slow, data)
        else:
            rest = self._fast.feed(data) if self._has_fast_path else data
            if rest or self._is_full or self._is_stopped:
                self._handle_rest(rest)

    def _handle_rest(self, rest: bytes) -> None:
        """Handle the bytes that the fast path has left."""
        if self._closed is not None:
            return  # Nothing counts behind a close frame.
        if self._is_stopped:
            self._follow(rest)
        elif self._is_full:
            self._unread = rest
            self._reader.pause()
        elif self._fast.is_turn_over:
            self._unread = rest
            self._reader.pause()
            self._start_task(self._read_on_next_turn)
        elif rest:
            self._feed_slowly(self._slow or self._open_slow_path(), rest)

    def _read_on(self) -> None:
        """Handle the bytes that were left unread, and read more if the queue is not full again."""
        self._is_full = False
        if self._slow is not None:
            self._slow.release()
        unread, self._unread = self._unread, b""
        if unread:
            self._dispatch(unread)
        self._resume_reading()

    async def _read_on_next_turn(self) -> None:
        """Handle the rest of a read of many frames, once the other tasks have run."""
        await trio.lowlevel.checkpoint()
        try:
            self._read_on()
        except Exception as error:  # noqa: BLE001  # as in `_take`
            self._fail(error)

    def _resume_reading(self) -> None:
        """Read, unless what was read before has yet to be handled."""
        is_slow = self._slow is not None and not self._slow.is_waiting
        is_behind = self._is_full or self._unread or is_slow
        if not (is_behind or self._is_ended_by_peer or self._closed is not None):
            self._reader.resume()

    def _handle_text(self, text: str) -> bool:
        """See FastPath."""
        if self._waiter is None:
            self._queue.append(text)
        else:
            rest = self._handle_nowait(text)
            if rest is None:
                return not self._is_stopped
            self._queue.append(rest)
            self._wake()
        self._is_full = len(self._queue) >= QUEUED_MESSAGES
        return not self._is_full

    def _handle_control(self, opcode: int, payload: bytes) -> bool | None:
        """See FastPath."""
        if opcode == PING_OPCODE and self._outbox.is_blocked:
            # trio-websocket reads no further until its pong is written.
            return None
        closed = _parse_close(payload) if opcode == CLOSE_OPCODE else None
        if opcode == CLOSE_OPCODE and closed is None:
            return None
        self._on_frames(1)
        if closed is not None:
            self._outbox.put_last(control_frame(CLOSE_OPCODE, payload))
            self._is_answer_queued = True
            self._end(closed)
            return False
        if opcode == PING_OPCODE and not self._is_stopped:
            self._outbox.put_control(control_frame(PONG_OPCODE, payload))
        return not self._is_stopped

    def _open_slow_path(self) -> "SlowPath":
        # A server has imported it soon after its start.
        from broker.transport.slow_path import SlowPath  # noqa: PLC0415

        self._slow = slow = SlowPath(
            self._outbox,
            self._boundaries_of_rest(),
            put=self._put_slowly,
            on_waiting=self._resume_reading,
            on_closed=self._end,
            plain_frames=PlainFrames(self._limit_bytes) if self._inflates else None,
        )
        self._start_task(partial(slow.run, self._limit_bytes))
        return slow

    def _put_slowly(self, message: str | bytes) -> bool:
        """See SlowPath."""
        self._queue.append(message)
        self._is_full = len(self._queue) >= QUEUED_MESSAGES
        if self._is_full:
            self._reader.pause()
        self._wake()
        return not self._is_full

    def _feed_slowly(self, slow: "SlowPath", data: bytes) -> None:
        self._reader.pause()
        self._on_frames(self._boundaries_of_rest().feed(data))
        slow.feed(data)
        self._wake()

    def _boundaries_of_rest(self) -> FrameBoundaries:
        if self._boundaries is None:
            self._boundaries = FrameBoundaries()
        return self._boundaries

    def _follow(self, data: bytes) -> None:
        """Look for nothing but the peer's close frame."""
        self._boundaries_of_rest().feed(self._fast.take_held() + self._unread + data)
        self._unread = b""
        self._wake()

    def _note_end_of_stream(self) -> None:
        self._is_ended_by_peer = True
        self._reader.pause()
        if self._is_stopped or self._closed is not None:
            self._wake()
            return
        if held := self._fast.take_held():
            # Half of a frame may be invalid already.
            self._feed_slowly(self._slow or self._open_slow_path(), held)
        if self._slow is None or self._slow.is_resting:
            self._end(Closed(ABNORMAL, ""))
        else:
            self._slow.feed(b"")

    def _end(self, closed: Closed) -> None:
        self._closed = closed
        self._reader.pause()
        self._wake()

    def _abort_wait(self, _: object) -> trio.lowlevel.Abort:
        self._waiter = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _wake(self) -> None:
        if self._waiter is not None:
            task, self._waiter = self._waiter, None
            trio.lowlevel.reschedule(task)


def _parse_close(payload: bytes) -> Closed | None:
    """Return code and reason of a close frame (RFC 6455 section 5.5.1), None if it may be invalid."""
    if not payload:
        return Closed(NO_STATUS, "")
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or code not in _ORDINARY_CODES:
        return None
    try:
        return Closed(code, payload[2:].decode())
    except UnicodeDecodeError:
        return None
