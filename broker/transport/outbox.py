"""The queue of frames to be written to one WebSocket connection: synchronous, ordered, bounded in bytes.

The flusher writes it behind each turn of the scheduler, as it does for all connections; a frame for many connections
is written at once. Whatever the kernel does not take then is left to a writer task, which exists until the queue is
empty.
"""

import math
from collections.abc import Awaitable, Callable

import attrs
import trio

from broker.errors import CloseCode
from broker.notices import Notice
from broker.rooms.frame import RoomFrame, SlowReader, Source, count_in, released_frame
from broker.rooms.held import HeldNotices
from broker.rooms.member import Codec
from broker.rooms.tally import Tally
from broker.sessions.backlog import Backlog, Relief
from broker.transport.byte_stream import ByteStream
from broker.transport.outbox_state import NEXT_INTAKE, Awaited, Fate, Intake, Step
from broker.transport.queued_frames import CHUNK_BYTES, Frames, remove_written, size_of, take_chunk

NOTED_BYTES = 4096
"""Less that waits for a peer is not counted in the backlog: it may be read at once."""

# A name of this module is found sooner than a member of an Enum.
_NOTHING, _FLUSH, _WRITER = Awaited.NOTHING, Awaited.FLUSH, Awaited.WRITER
_OPEN = Intake.OPEN

_NOTHING_HELD = HeldNotices()
"""Nothing is added to it."""


@attrs.frozen
class OutboxStatistics:
    """A snapshot of an outbox."""

    queued_bytes: int
    """Bytes that are not written yet."""
    blocked_bytes: int
    """Of these, how many the kernel did not take, as the peer has yet to read what came before."""
    intake: Intake
    awaited: Awaited


class Outbox:
    """See `broker.rooms.member.Outbox`.

    Past `limit_bytes`, events are refused: with the policy "disconnect" the connection then ends with 4108, with
    "drop" the peer is sent a gap once half of the limit is free. With "latest" they are held back as soon as the kernel
    takes no more, up to the limit for themselves, and the newest ones are sent once half of the limit is free. Replies may
    take twice the limit. A frame larger than the limit is queued when nothing waits: it would never fit otherwise.
    `outbox_state` has the states.
    """

    # Set only for peers that read slowly, which most never do.
    _is_noted = False
    _waiting = 0
    """Deliveries that wait for the peer; counted while a writer task is running."""
    _in_flight = 0
    """Of these, those of the chunk that is being written."""

    def __init__(
        self,
        stream: ByteStream,
        codec: Codec,
        *,
        limit_bytes: int,
        slow_reader: SlowReader,
        disconnect: Callable[[CloseCode, str], None],
        schedule: Callable[[Callable[[], int]], None],
        start_writer: Callable[[Callable[[], Awaitable[None]]], None],
        fail: Callable[[Exception], None],
        tally: Tally,
        backlog: Backlog,
    ) -> None:
        """`slow_reader` is the policy towards rooms that have none of their own; `tally` and `backlog` are the node's.

        `schedule` is the flusher's; `fail` ends the connection over an error that a stream should never raise.
        """
        self._stream = stream
        self._write_nowait = stream.write_nowait
        self._codec = codec
        self._limit_bytes = limit_bytes
        self._unflushed_limit_bytes = min(limit_bytes, CHUNK_BYTES)
        self._fast_path_limit_bytes = self._unflushed_limit_bytes
        """Up to how much `offer` checks nothing else; below zero while the intake is not open, or the peer has to read."""
        self._slow_reader = slow_reader
        self._disconnect = disconnect
        self._schedule = schedule
        self._start_writer = start_writer
        self._fail = fail
        self._tally = tally
        self._backlog = backlog
        self._queue: Frames = []
        self._queued_bytes = 0
        self._intake = Intake.OPEN
        self._awaited = Awaited.NOTHING
        self._held = _NOTHING_HELD
        """Is empty unless a writer task is running. Made only where something is held back, as few outboxes ever need it."""
        self._progress: trio.lowlevel.ParkingLot | None = None  # exists while a task waits in it
        self.last_acknowledged = -math.inf
        """When the peer's side last made space for a write that waited (trio time): a sign of life."""
        self._written_bytes = 0
        self._dropped_behind_bytes = 0
        """Dropped behind the chunk in flight, and not yet counted as written."""
        self._dropped_bytes = 0

    @property
    def codec(self) -> Codec:
        """How this outbox wants its frames."""
        return self._codec

    def offer(self, frame: RoomFrame) -> bool:
        """Queue a frame of events; False if it is refused, for `hold`. True also where it is discarded."""
        # Each call less on this way is some percent of what a small room costs.
        queued_bytes = self._queued_bytes + len(frame)
        if queued_bytes > self._fast_path_limit_bytes:
            return self._offer_checked(frame)
        self._queue.append(frame)
        self._queued_bytes = queued_bytes
        if self._awaited is _NOTHING:
            self._awaited = _FLUSH
            self._schedule(self.flush)
        return True

    def _offer_checked(self, frame: RoomFrame) -> bool:
        self.flush()
        if self._intake.events is Fate.QUEUED:
            if self._awaited is _WRITER and not self._is_taken_blocked(frame):
                return False
            self._put(frame)
        elif self._intake.events is Fate.DISCARDED:
            self._tally.gone += frame.deliveries
        return self._intake.events is not Fate.REFUSED

    def _is_taken_blocked(self, frame: RoomFrame) -> bool:
        """Whether a frame is queued though the peer has yet to read."""
        source = frame.source
        is_conflated = self._policy_of(source) == "latest" or source.room in self._held
        return not is_conflated and self._queued_bytes + len(frame) <= self._limit_bytes

    def _policy_of(self, source: Source) -> SlowReader:
        return source.slow_reader or self._slow_reader

    def write_or_offer(self, frame: RoomFrame) -> bool:
        """Write a frame of events at once if nothing waits, else offer it. The fast path of `offer` and `flush`."""
        if self._awaited is not _NOTHING or self._intake is not _OPEN:
            return self.offer(frame)
        try:
            written = self._write_nowait(frame)
        except Exception as error:  # noqa: BLE001  # this connection's, and no other's
            self._tally.gone += frame.deliveries
            self._end_broken(error)
            return True
        if written != len(frame):
            self._queue.append(frame)
            self._queued_bytes += len(frame)
            self._leave_to_writer(written)
        return True

    def _step(self, step: Step) -> None:
        self._intake = NEXT_INTAKE[self._intake][step]
        is_fast = self._intake is _OPEN and self._awaited is not _WRITER
        self._fast_path_limit_bytes = self._unflushed_limit_bytes if is_fast else -1

    def hold(self, frame: RoomFrame) -> int:
        """Treat a frame that `offer` has just refused by the policy of its room; returns how many notices are lost."""
        policy = self._policy_of(frame.source)
        if policy == "disconnect":
            if self._is_taken_blocked(frame):
                # It was refused because other rooms drop theirs.
                self._put(frame)
                return 0
            self._give_up()
            return len(frame.notices)
        if policy == "drop":
            self._step(Step.DROP)
        if self._held is _NOTHING_HELD:
            self._held = HeldNotices()
        lost = self._held.add(frame, keeps_latest=policy == "latest", space_bytes=self._limit_bytes)
        self._note_waiting(frame.deliveries - lost)
        self._note_backlog()
        return lost

    def relieve(self) -> Relief | None:
        """See `broker.sessions.backlog`."""
        if self._intake is not Intake.OPEN and self._intake is not Intake.DROPPING:
            return None
        frames = [frame for frame in self._queue if isinstance(frame, RoomFrame)]
        policies = {self._policy_of(frame.source) for frame in frames}
        if "disconnect" in policies or not (frames or self._held.size_bytes):
            self._give_up()
            self.drop_unsent()
            return "closed"
        if "drop" in policies:
            self._step(Step.DROP)
        before = count_in(frames) + self._held.notices
        self._keep([frame for frame in self._queue if not isinstance(frame, RoomFrame)])
        if self._held is _NOTHING_HELD:
            self._held = HeldNotices()
        self._held.add_earlier(
            [(frame, self._policy_of(frame.source) == "latest") for frame in frames],
            space_bytes=self._limit_bytes if frames else 0,
        )
        lost = before - self._held.notices
        self._tally.deliveries_lost += lost
        self._note_waiting(-lost)
        self._note_backlog()
        return "dropped"

    def _note_waiting(self, deliveries: int) -> None:
        """Count deliveries that wait for the peer, or (below zero) that do not any more."""
        self._waiting += deliveries
        self._tally.waiting += deliveries

    def _note_gone(self, deliveries: int) -> None:
        """Count deliveries that will not be written, as the connection ends."""
        self._tally.gone += deliveries
        if self._awaited is _WRITER:
            self._note_waiting(-deliveries)

    def _forget_held(self) -> None:
        if self._held:
            self._note_gone(self._held.notices)
            self._held.clear()

    def _note_backlog(self) -> None:
        """Note what waits for the peer, unless it is little; called after each change while a writer task is running."""
        if self._queued_bytes < NOTED_BYTES and not (self._is_noted or self._held):
            return
        is_waiting = self._awaited is _WRITER and self._intake is not Intake.CLOSED
        waiting_bytes = self._queued_bytes + self._held.size_bytes if is_waiting else 0
        self._is_noted = waiting_bytes > 0
        self._backlog.note(self, waiting_bytes)

    def release(self, room: str) -> None:
        """Queue what is held back of a room, with its gaps: an answer follows that has a later position."""
        if self._intake.replies is Fate.QUEUED:
            self._put_held(room)

    def reply(self, *notices: Notice) -> None:
        """Queue answers to requests; past twice the limit the connection ends."""
        frame = self._codec.encode(notices)
        if self._queued_bytes + len(frame) > self._unflushed_limit_bytes:
            self.flush()
        if self._intake.replies is not Fate.QUEUED:
            return
        if self._awaited is _WRITER and self._queued_bytes + len(frame) > 2 * self._limit_bytes:
            self._give_up()
        else:
            self._put(frame)

    def put_control(self, frame: bytes) -> None:
        """Queue a small frame of the WebSocket protocol itself."""
        if self._intake.replies is Fate.QUEUED:
            self._put(frame)

    def put_last(self, frame: bytes) -> None:
        """Queue the close frame, behind which all frames are discarded; nothing happens if one is queued already."""
        if self._intake.writes is Fate.QUEUED:
            self._put_end(frame)

    def _put_end(self, frame: bytes) -> None:
        self._put(frame)
        self._step(Step.END)
        self._forget_held()

    @property
    def is_blocked(self) -> bool:
        """Whether the peer has yet to read, before more can be written."""
        return self._awaited is _WRITER

    @property
    def is_empty(self) -> bool:
        """Whether all that was queued is written."""
        return not self._queued_bytes

    async def write(self, data: bytes, *, is_last: bool = False) -> None:
        """Queue `data`, and return when it is written.

        After the last, all other frames are discarded. If cancelled, `data` is written all the same.

        :raises trio.ClosedResourceError: if the last was queued before, or the outbox is closed while this waits.
        """
        if self._intake.writes is not Fate.QUEUED:
            raise trio.ClosedResourceError("outbox is closed")
        mark = self._accepted_bytes + len(data)
        if is_last:
            self._put_end(data)
        else:
            self._put(data)
        if not await self._wait_written(mark):
            raise trio.ClosedResourceError("outbox is closed")

    async def wait_space(self) -> None:
        """Wait until no more than `limit_bytes` waits, or the connection is ending; a checkpoint only if it has to wait."""
        while self._queued_bytes > self._limit_bytes and self._intake.writes is Fate.QUEUED:
            await self._wait_progress()

    async def wait_written(self) -> bool:
        """Wait until all that was queued so far is written; returns False if the outbox was closed before."""
        return await self._wait_written(self._accepted_bytes)

    async def _wait_written(self, mark: int) -> bool:
        self.flush()
        await trio.lowlevel.checkpoint()
        while self._written_bytes < mark and self._intake is not Intake.CLOSED:
            await self._wait_progress()
        return self._written_bytes >= mark

    @property
    def _accepted_bytes(self) -> int:
        return self._written_bytes + self._dropped_behind_bytes + self._dropped_bytes + self._queued_bytes

    def flush(self) -> int:
        """Write what the kernel takes of what waits for the flusher, and let a task write the rest.

        Returns how many bytes it has written; never raises.
        """
        if self._awaited is _WRITER:
            return 0
        self._awaited = _NOTHING
        queue = self._queue
        if not queue:
            return 0
        try:
            written = self._write_nowait(queue[0] if len(queue) == 1 else b"".join(queue))
        except Exception as error:  # noqa: BLE001  # this connection's, and no other's
            self._end_broken(error)
            return 0
        if written == self._queued_bytes:
            queue.clear()
            self._note_written(written)
        else:
            self._leave_to_writer(written)
        return written

    def _leave_to_writer(self, written: int) -> None:
        """Have a task write the queue but for the bytes that the kernel took of it."""
        remove_written(self._queue, written)
        self._awaited = _WRITER
        first = self._queue[0]
        if type(first) is RoomFrame and len(self._queue) == 1:
            self._waiting = len(first.notices)  # as `count_in`
        else:
            self._waiting = count_in(self._queue)
        self._tally.waiting += self._waiting
        self._fast_path_limit_bytes = -1
        self._start_writer(self._write_queue)
        self._note_written(written)
        if self._queued_bytes >= NOTED_BYTES:
            self._note_backlog()

    def _end_broken(self, error: Exception) -> None:
        """End the connection, as a write failed."""
        if isinstance(error, trio.BrokenResourceError):
            self._break()
        else:
            self.close()
            self._fail(error)

    def _give_up(self) -> None:
        """End the connection for reading too slowly."""
        self._step(Step.GIVE_UP)
        self._forget_held()
        self._disconnect(CloseCode.TOO_SLOW, "reads too slowly")

    def drop_unsent(self) -> None:
        """Drop all frames of which nothing was written, so that a close frame comes through."""
        begun: Frames = [frame for frame in self._queue if isinstance(frame, memoryview)]
        self._note_gone(count_in(self._queue) - count_in(begun))
        self._keep(begun)
        self._note_backlog()

    def _keep(self, kept: Frames) -> None:
        """Drop all of the queue but `kept`."""
        dropped = size_of(self._queue) - size_of(kept)
        self._queue = kept
        self._queued_bytes -= dropped
        self._dropped_behind_bytes += dropped
        if not self._queued_bytes:
            self._note_written(0)

    def _note_written(self, size: int) -> None:
        self._queued_bytes -= size
        # Bytes dropped by `drop_unsent` were queued behind the chunk in flight. They count as written only now, so
        # that the mark of a `write` is not reached early.
        self._written_bytes += size + self._dropped_behind_bytes
        self._dropped_behind_bytes = 0
        if self._progress is not None:
            self._wake_waiting(self._progress)

    async def _wait_progress(self) -> None:
        """Wait until bytes are written or dropped."""
        if self._progress is None:
            self._progress = trio.lowlevel.ParkingLot()
        await self._progress.park()

    def _wake_waiting(self, progress: trio.lowlevel.ParkingLot) -> None:
        self._progress = None
        progress.unpark_all()

    def close(self) -> None:
        """Drop the queue and discard all further frames; nothing is written any more."""
        self._step(Step.CLOSE)
        if self._queue or self._waiting:
            self._note_gone(self._waiting if self._awaited is _WRITER else count_in(self._queue))
        self._in_flight = 0
        self._held.clear()
        dropped = size_of(self._queue)
        self._queued_bytes -= dropped
        self._dropped_bytes += dropped
        self._queue.clear()
        if self._is_noted:
            self._note_backlog()
        if self._progress is not None:
            self._wake_waiting(self._progress)

    def statistics(self) -> OutboxStatistics:
        """Return a snapshot."""
        blocked_bytes = self._queued_bytes if self._awaited is _WRITER else 0
        return OutboxStatistics(self._queued_bytes, blocked_bytes, self._intake, self._awaited)

    def _put(self, frame: bytes) -> None:
        # As at the end of `offer`.
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        if self._awaited is _NOTHING:
            self._awaited = _FLUSH
            self._schedule(self.flush)
        elif self._awaited is _WRITER:
            if isinstance(frame, RoomFrame):
                self._note_waiting(frame.deliveries)
            self._note_backlog()

    async def _write_queue(self) -> None:
        """Write until nothing is queued or held back."""
        try:
            while self._queue or self._held:
                if self._queue:
                    await self._write_chunk()
                if self._held and self._queued_bytes <= self._limit_bytes // 2:
                    self._catch_up()
            self._awaited = _NOTHING
            if self._intake is _OPEN:
                self._fast_path_limit_bytes = self._unflushed_limit_bytes
            if self._is_noted:
                self._note_backlog()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._break()

    async def _write_chunk(self) -> None:
        frames = take_chunk(self._queue)
        chunk = b"".join(frames)
        # Most often all that waits.
        self._in_flight = count_in(frames) if self._queue or self._held else self._waiting
        await self._stream.send_all(chunk)
        self._waiting -= self._in_flight
        self._tally.waiting -= self._in_flight
        self._in_flight = 0
        self._note_written(len(chunk))
        if self._is_noted:
            self._note_backlog()
        if self._stream.is_acknowledged:
            self.last_acknowledged = trio.current_time()

    def _catch_up(self) -> None:
        """Queue all that is held back, and take events again."""
        if self._intake is Intake.DROPPING:
            self._step(Step.CATCH_UP)
        self._put_held()

    def _put_held(self, room: str | None = None) -> None:
        before = self._held.notices
        released = self._held.release(room)
        # They wait on, as frames.
        self._note_waiting(self._held.notices - before)
        for source, notices in released:
            if notices:
                self._put(released_frame(self._codec.encode(notices), source, notices))

    def _break(self) -> None:
        """End the connection, as its peer is gone."""
        self.close()
        self._disconnect(CloseCode.GOING_AWAY, "connection lost")
