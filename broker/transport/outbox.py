"""What waits to be written to one WebSocket connection: synchronous, ordered, bounded in bytes.

A frame goes straight to the socket while nothing waits. What the kernel does not take is queued, and only then
does a writer task exist, until the queue is empty again.
"""

import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Literal

import attrs
import trio

from broker.errors import CloseCode
from broker.notices import Gap, Notice
from broker.rooms.member import Codec
from broker.transport.wire import Wire

CHUNK_BYTES = 65_536
"""Queued frames are joined into writes of about this size: large enough to be cheap, small enough that a close
frame gets out soon behind one."""


@attrs.frozen
class OutboxStatistics:
    """A snapshot of an outbox."""

    queued_bytes: int
    """Bytes that the kernel has not taken yet."""
    is_dropping: bool
    """Whether events are being dropped because the peer reads too slowly."""


class Outbox:
    """See `broker.rooms.member.Outbox`.

    Past `limit_bytes`, events are refused: with the policy "disconnect" the connection then ends with 4108, with
    "drop" the peer is told of the gap once half of what waits is written. Replies may take twice the limit. A frame
    larger than the limit is taken when nothing waits: it would never fit otherwise.
    """

    def __init__(
        self,
        wire: Wire,
        codec: Codec,
        *,
        limit_bytes: int,
        slow_reader: Literal["disconnect", "drop"],
        disconnect: Callable[[CloseCode, str], None],
        start_writer: Callable[[Callable[[], Awaitable[None]]], None],
    ) -> None:
        self._wire = wire
        self._write_nowait = wire.write_nowait
        self._codec = codec
        self._limit_bytes = limit_bytes
        self._drops = slow_reader == "drop"
        self._disconnect = disconnect
        self._start_writer = start_writer
        self._queue: deque[bytes | memoryview] = deque()
        self._queued_bytes = 0
        self._is_writing = False
        self._takes_more = True
        self._is_closed = False
        self._is_given_up = False
        self._gaps: dict[str, tuple[int, int]] = {}
        self._is_dropping = False
        self._progress = trio.lowlevel.ParkingLot()
        self.last_written = -math.inf
        """When the peer last made room for some of what waited (trio time): a sign of life."""
        self._taken_bytes = 0
        self._written_bytes = 0
        self._forgotten_bytes = 0

    @property
    def codec(self) -> Codec:
        """How this outbox wants its frames."""
        return self._codec

    def offer(self, frame: bytes) -> bool:
        """Take a frame of events, or return False because too much waits; a closed outbox takes all."""
        if not self._is_writing and self._takes_more and not self._is_given_up:
            # Nearly always: each call less on this way is some percent of what a large room costs.
            self._write_through(frame)
            return True
        if self._is_writing and self._takes_more and self._is_too_much(frame):
            return False
        self._take(frame)
        return True

    def _is_too_much(self, frame: bytes) -> bool:
        is_full = self._queued_bytes + len(frame) > self._limit_bytes
        return (self._is_dropping or is_full) and not self._is_given_up

    def _take(self, frame: bytes) -> None:
        if not self._is_given_up:
            self._put(frame)

    def lost(self, room: str, offsets: tuple[int, int] | None) -> None:
        """Hear that a refused frame held these offsets."""
        if not self._drops:
            self._give_up()
            return
        self._is_dropping = True
        if offsets is not None:
            first, _ = self._gaps.get(room, offsets)
            self._gaps[room] = (first, offsets[1])

    def reply(self, *notices: Notice) -> None:
        """Take answers to requests; past twice the limit the connection ends."""
        frame = self._codec.encode(notices)
        # Not once a close frame waits: giving up would drop it.
        if self._takes_more and self._is_writing and self._queued_bytes + len(frame) > 2 * self._limit_bytes:
            self._give_up()
        else:
            self._take(frame)

    def put_control(self, frame: bytes) -> None:
        """Take a small frame of the WebSocket protocol itself."""
        self._take(frame)

    async def write(self, data: bytes, *, is_last: bool = False) -> None:
        """Take `data` behind what waits, and return when it is written.

        After the last, whatever is offered is thrown away. If cancelled, `data` is written all the same.

        :raises trio.ClosedResourceError: if the outbox takes no more, or is closed while this waits.
        """
        if not self._takes_more:
            raise trio.ClosedResourceError("outbox is closed")
        self._put(data)
        if is_last:
            self._takes_more = False
        if not await self.wait_written():
            raise trio.ClosedResourceError("outbox is closed")

    async def wait_space(self) -> None:
        """Wait until no more waits than events may, or it is closed; a checkpoint only if it has to wait."""
        while self._queued_bytes > self._limit_bytes and self._takes_more:
            await self._progress.park()

    async def wait_written(self) -> bool:
        """Wait until all that was taken so far is written; returns False if the outbox was closed before."""
        mark = self._taken_bytes
        await trio.lowlevel.checkpoint()
        while self._written_bytes < mark:
            if self._is_closed:
                return False
            await self._progress.park()
        return True

    def _give_up(self) -> None:
        """End the connection for reading too slowly; what its peer gets is the beginning of what it should have got.

        After the first frame refused nothing is taken but the close frame: a later one would hide the gap.
        """
        self._is_given_up = True
        self._disconnect(CloseCode.TOO_SLOW, "reads too slowly")

    def forget_queue(self) -> None:
        """Drop what waits and is not being written, so that a close frame comes through."""
        # A memoryview is the rest of a frame that the kernel took the beginning of.
        begun = [frame for frame in self._queue if isinstance(frame, memoryview)]
        dropped = sum(map(len, self._queue)) - sum(map(len, begun))
        self._queue = deque(begun)
        self._queued_bytes -= dropped
        self._forgotten_bytes += dropped
        if not self._queued_bytes:
            self._note_written(0)

    def _note_written(self, size: int) -> None:
        self._queued_bytes -= size
        # What was forgotten lay behind what was being written: nobody is to take the one for the other.
        self._written_bytes += size + self._forgotten_bytes
        self._forgotten_bytes = 0
        self._progress.unpark_all()

    def close(self) -> None:
        """Drop what waits and throw away all that comes; nothing is written any more."""
        self._takes_more = False
        self._is_closed = True
        self._queued_bytes -= sum(map(len, self._queue))
        self._queue.clear()
        self._progress.unpark_all()

    def statistics(self) -> OutboxStatistics:
        """Return a snapshot."""
        return OutboxStatistics(self._queued_bytes, self._is_dropping)

    def _put(self, frame: bytes) -> None:
        if not self._takes_more:
            return
        if self._is_writing:
            self._queue.append(frame)
            self._queued_bytes += len(frame)
            self._taken_bytes += len(frame)
        else:
            self._write_through(frame)

    def _write_through(self, frame: bytes) -> None:
        """Write what the kernel takes, and queue the rest. What is written at once need not be counted."""
        try:
            written = self._write_nowait(frame)
        except trio.BrokenResourceError:
            self._taken_bytes += len(frame)
            self._break()
            return
        left = len(frame) - written
        if left:
            self._queue.append(memoryview(frame)[written:] if written else frame)
            self._queued_bytes += left
            self._taken_bytes += left
            self._is_writing = True
            self._start_writer(self._write_queue)

    async def _write_queue(self) -> None:
        """Write what waits until nothing does."""
        try:
            while self._queue:
                chunk = self._next_chunk()
                await self._wire.send_all(chunk)
                self._note_written(len(chunk))
                if self._wire.is_progress_life:
                    self.last_written = trio.current_time()
                if self._is_dropping and self._queued_bytes <= self._limit_bytes // 2:
                    self._tell_gaps()
            self._is_writing = False
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._break()

    def _next_chunk(self) -> bytes:
        frames = [self._queue.popleft()]
        size = len(frames[0])
        while self._queue and size + len(self._queue[0]) <= CHUNK_BYTES:
            frames.append(self._queue.popleft())
            size += len(frames[-1])
        return b"".join(frames)

    def _tell_gaps(self) -> None:
        self._is_dropping = False
        gaps = [Gap(room, first, last) for room, (first, last) in self._gaps.items()]
        self._gaps.clear()
        if gaps:
            self.reply(*gaps)

    def _break(self) -> None:
        """End the connection, as its peer is gone."""
        self.close()
        self._disconnect(CloseCode.GOING_AWAY, "connection lost")
