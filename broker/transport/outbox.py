"""What waits to be written to one WebSocket connection: synchronous, ordered, bounded in bytes.

A frame waits for the flusher, which writes for all connections behind each turn of the scheduler. What the kernel
does not take then is left to a writer task, which exists until nothing waits.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

import attrs
import trio

from broker.errors import CloseCode
from broker.notices import Gap, Notice
from broker.rooms.member import Codec
from broker.transport.byte_stream import ByteStream

CHUNK_BYTES = 65_536
"""Queued frames are joined into writes of about this size: large enough to be cheap, small enough that a close
frame gets out soon behind one. While more than that waits for the flusher, nothing is taken before it is written."""


_NOBODY, _FLUSHER_OF_BULK, _FLUSHER, _WRITER = range(4)  # whom what is queued waits for


class Schedule(Protocol):
    """See Flusher."""

    def __call__(self, flush: Callable[[], int], *, is_bulk: bool = False) -> None:
        """Call `flush` soon."""
        ...


@attrs.frozen
class OutboxStatistics:
    """A snapshot of an outbox."""

    queued_bytes: int
    """Bytes that are not written yet."""
    blocked_bytes: int
    """Of these, how many the kernel did not take, as the peer has yet to read what came before."""
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
        stream: ByteStream,
        codec: Codec,
        *,
        limit_bytes: int,
        slow_reader: Literal["disconnect", "drop"],
        disconnect: Callable[[CloseCode, str], None],
        schedule: Schedule,
        start_writer: Callable[[Callable[[], Awaitable[None]]], None],
        fail: Callable[[Exception], None],
    ) -> None:
        """`schedule` is the flusher's; `fail` ends the connection over an error of the stream that a stream never raises."""
        self._stream = stream
        self._codec = codec
        self._limit_bytes = limit_bytes
        # How much may wait for the flusher.
        self._unflushed_bytes = min(limit_bytes, CHUNK_BYTES)
        self._ample_bytes = self._unflushed_bytes
        self._drops = slow_reader == "drop"
        self._disconnect = disconnect
        self._schedule = schedule
        self._start_writer = start_writer
        self._fail = fail
        # Waits for the writer if there is one, else for the flusher.
        self._queue: list[bytes | memoryview] = []
        self._queued_bytes = 0
        self._waits_for: int = _NOBODY
        self._takes_more = True
        self._is_closed = False
        self._is_given_up = False
        self._gaps: dict[str, tuple[int, int]] = {}
        self._is_dropping = False
        self._progress = trio.lowlevel.ParkingLot()
        self.last_written = -math.inf
        """When the peer last made room for some of what waited (trio time): a sign of life."""
        self._written_bytes = 0
        self._forgotten_bytes = 0
        self._dropped_bytes = 0

    @property
    def codec(self) -> Codec:
        """How this outbox wants its frames."""
        return self._codec

    def offer(self, frame: bytes, *, is_bulk: bool = False) -> bool:
        """Take a frame of events, or return False because too much waits; a closed outbox takes all."""
        # Each call less on this way is some percent of what a large room costs.
        queued_bytes = self._queued_bytes + len(frame)
        if queued_bytes > self._ample_bytes:
            if self._is_too_much(frame):
                return False
            self._take(frame, is_bulk=is_bulk)
            return True
        self._queue.append(frame)
        self._queued_bytes = queued_bytes
        if self._waits_for < _FLUSHER:
            self._wait_for_flusher(is_bulk=is_bulk)
        return True

    def _set_ample(self) -> None:
        """Note up to how much `offer` looks at nothing else; to be called when any of this has changed."""
        is_well = self._takes_more and not self._is_given_up and not self._is_dropping
        self._ample_bytes = self._unflushed_bytes if is_well else -1

    def _is_too_much(self, frame: bytes) -> bool:
        self.flush()
        if self._waits_for != _WRITER or not self._takes_more or self._is_given_up:
            return False
        return self._is_dropping or self._queued_bytes + len(frame) > self._limit_bytes

    def _take(self, frame: bytes, *, is_bulk: bool = False) -> None:
        if not self._is_given_up:
            self._put(frame, is_bulk=is_bulk)

    def note_lost(self, room: str, offsets: tuple[int, int] | None) -> None:
        """Hear that a refused frame held these offsets."""
        if not self._drops:
            self._give_up()
            return
        self._is_dropping = True
        self._set_ample()
        if offsets is not None:
            first, _ = self._gaps.get(room, offsets)
            self._gaps[room] = (first, offsets[1])

    def reply(self, *notices: Notice) -> None:
        """Take answers to requests; past twice the limit the connection ends."""
        frame = self._codec.encode(notices)
        if self._queued_bytes + len(frame) > self._unflushed_bytes:
            self.flush()
        # Not once a close frame waits: giving up would drop it.
        is_written = self._waits_for == _WRITER
        if self._takes_more and is_written and self._queued_bytes + len(frame) > 2 * self._limit_bytes:
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
        mark = self._taken_bytes + len(data)
        self._put(data)
        if is_last:
            self._takes_more = False
            self._set_ample()
        if not await self._wait_written(mark):
            raise trio.ClosedResourceError("outbox is closed")

    async def wait_space(self) -> None:
        """Wait until no more waits than events may, or it is closed; a checkpoint only if it has to wait."""
        while self._queued_bytes > self._limit_bytes and self._takes_more:
            await self._progress.park()

    async def wait_written(self) -> bool:
        """Wait until all that was taken so far is written; returns False if the outbox was closed before."""
        return await self._wait_written(self._taken_bytes)

    async def _wait_written(self, mark: int) -> bool:
        self.flush()
        await trio.lowlevel.checkpoint()
        while self._written_bytes < mark and not self._is_closed:
            await self._progress.park()
        return self._written_bytes >= mark

    @property
    def _taken_bytes(self) -> int:
        return self._written_bytes + self._forgotten_bytes + self._dropped_bytes + self._queued_bytes

    def flush(self) -> int:
        """Write what the kernel takes of what waits for the flusher, and let a task write the rest.

        Returns how many bytes it has written; never raises.
        """
        if self._waits_for == _WRITER:
            return 0
        self._waits_for = _NOBODY
        queue = self._queue
        if not queue:
            return 0
        try:
            written = self._stream.write_nowait(queue[0] if len(queue) == 1 else b"".join(queue))
        except trio.BrokenResourceError:
            self._break()
            return 0
        except Exception as error:  # noqa: BLE001  # this connection's, and no other's
            self.close()
            self._fail(error)
            return 0
        if written == self._queued_bytes:
            queue.clear()
        else:
            self._forget_written(written)
            self._waits_for = _WRITER
            self._start_writer(self._write_queue)
        self._note_written(written)
        return written

    def _forget_written(self, size: int) -> None:
        queue = self._queue
        while size >= len(queue[0]):
            size -= len(queue.pop(0))
        if size:
            queue[0] = memoryview(queue[0])[size:]

    def _give_up(self) -> None:
        """End the connection for reading too slowly; what its peer gets is the beginning of what it should have got.

        After the first frame refused nothing is taken but the close frame: a later one would hide the gap.
        """
        self._is_given_up = True
        self._set_ample()
        self._disconnect(CloseCode.TOO_SLOW, "reads too slowly")

    def forget_queue(self) -> None:
        """Drop what waits and is not being written, so that a close frame comes through."""
        # A memoryview is the rest of a frame that the kernel took the beginning of.
        begun: list[bytes | memoryview] = [frame for frame in self._queue if isinstance(frame, memoryview)]
        dropped = sum(map(len, self._queue)) - sum(map(len, begun))
        self._queue = begun
        self._queued_bytes -= dropped
        self._forgotten_bytes += dropped
        if not self._queued_bytes:
            self._note_written(0)

    def _note_written(self, size: int) -> None:
        self._queued_bytes -= size
        # What was forgotten lay behind what was being written: nobody is to take the one for the other.
        self._written_bytes += size + self._forgotten_bytes
        self._forgotten_bytes = 0
        if self._progress:
            self._progress.unpark_all()

    def close(self) -> None:
        """Drop what waits and throw away all that comes; nothing is written any more."""
        self._takes_more = False
        self._set_ample()
        self._is_closed = True
        dropped = sum(map(len, self._queue))
        self._queued_bytes -= dropped
        self._dropped_bytes += dropped
        self._queue.clear()
        self._progress.unpark_all()

    def statistics(self) -> OutboxStatistics:
        """Return a snapshot."""
        blocked_bytes = self._queued_bytes if self._waits_for == _WRITER else 0
        return OutboxStatistics(self._queued_bytes, blocked_bytes, self._is_dropping)

    def _put(self, frame: bytes, *, is_bulk: bool = False) -> None:
        if not self._takes_more:
            return
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        if self._waits_for < _FLUSHER:
            self._wait_for_flusher(is_bulk=is_bulk)

    def _wait_for_flusher(self, *, is_bulk: bool) -> None:
        """Have the queue flushed; what few say does not wait where bulk does."""
        if not is_bulk or self._waits_for == _NOBODY:
            self._waits_for = _FLUSHER_OF_BULK if is_bulk else _FLUSHER
            self._schedule(self.flush, is_bulk=is_bulk)

    async def _write_queue(self) -> None:
        """Write what waits until nothing does."""
        try:
            while self._queue:
                chunk = self._next_chunk()
                await self._stream.send_all(chunk)
                self._note_written(len(chunk))
                if self._stream.is_acknowledged:
                    self.last_written = trio.current_time()
                if self._is_dropping and self._queued_bytes <= self._limit_bytes // 2:
                    self._tell_gaps()
            self._waits_for = _NOBODY
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._break()

    def _next_chunk(self) -> bytes:
        size, count = len(self._queue[0]), 1
        while count < len(self._queue) and size + len(self._queue[count]) <= CHUNK_BYTES:
            size += len(self._queue[count])
            count += 1
        chunk = b"".join(self._queue[:count])
        del self._queue[:count]
        return chunk

    def _tell_gaps(self) -> None:
        self._is_dropping = False
        self._set_ample()
        gaps = [Gap(room, first, last) for room, (first, last) in self._gaps.items()]
        self._gaps.clear()
        if gaps:
            self.reply(*gaps)

    def _break(self) -> None:
        """End the connection, as its peer is gone."""
        self.close()
        self._disconnect(CloseCode.GOING_AWAY, "connection lost")
