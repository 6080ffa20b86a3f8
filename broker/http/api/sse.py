"""Notices as server-sent events (the HTML standard, section 9.2), and the outbox of an event stream."""

from collections import deque
from collections.abc import Callable, Sequence

import attrs
import msgspec
import trio

from broker.errors import CloseCode, Disconnect
from broker.model import Event, Position, parse_offset
from broker.notices import Joined, Notice, RoomEvent, Withheld
from broker.protocol.codec import encode_notice
from broker.protocol.messages import Closing
from broker.rooms.frame import RoomFrame, count_in, released_frame
from broker.rooms.held import HeldNotices
from broker.rooms.member import Codec
from broker.rooms.tally import Tally
from broker.sessions.backlog import Backlog, Relief
from broker.sessions.wire_protocol import WireProtocol
from broker.wakeup import Wakeup

CHUNK_BYTES = 65_536
"""Queued events are joined into writes of about this size."""

HEARTBEAT = b":\n\n"
"""A comment, which the client's parser drops; it keeps proxies from taking the connection for dead."""


@attrs.frozen
class SseCodec:
    """Encodes notices as events of the default type `message`, the same JSON as on a WebSocket as their data.

    Stored messages have the id EPOCH:OFFSET, from which a client that reconnects recovers what it missed. So does
    `joined`, unless missed messages follow it: each is an event with its own id, so that a connection that breaks
    among them does not skip the rest.
    """

    def encode(self, notices: Sequence[Notice]) -> bytes:
        """Return the notices, in order, as events."""
        return b"".join([_encode(notice) for notice in notices])


def event_stream_protocol() -> WireProtocol:
    """Return the native protocol as server-sent events, whose clients only listen."""
    return WireProtocol("event-stream", SseCodec(), decoder=None)


def close_event(ending: Disconnect, protocol: WireProtocol) -> bytes:
    """Return the last event of a stream, with the code and reason of a WebSocket's close frame."""
    data = msgspec.json.encode(Closing(protocol.close_code_of(ending.code), ending.reason))
    return b"event:close\ndata:%b\n\n" % data


def _encode(notice: Notice) -> bytes:
    if isinstance(notice, Joined) and notice.events:
        first = _event(encode_notice(msgspec.structs.replace(notice, events=())))
        epoch = notice.position.epoch
        missed = [
            _encode(RoomEvent(notice.room, epoch, event) if isinstance(event, Event) else event)
            for event in notice.events
        ]
        return first + b"".join(missed)
    return _event(encode_notice(notice), _position(notice))


def _position(notice: Notice) -> Position | None:
    """Return the recipient's position in the room after this notice."""
    if isinstance(notice, Joined):
        return notice.position
    if isinstance(notice, Withheld):
        return Position(notice.epoch, notice.offset)
    if isinstance(notice, RoomEvent) and notice.event.offset is not None:
        return Position(notice.epoch, notice.event.offset)
    return None


def _event(data: bytes, position: Position | None = None) -> bytes:
    # In JSON a raw line end can only stand between tokens, where a blank does as well (RFC 8259 section 2).
    line = data.replace(b"\r", b" ").replace(b"\n", b" ")
    if position is None:
        return b"data:%b\n\n" % line
    return b"id:%b:%d\ndata:%b\n\n" % (position.epoch.encode(), position.offset, line)


def parse_event_id(event_id: str | None) -> Position | None:
    """Return the position in an event id; None if the id is not one of ours."""
    epoch, _, digits = (event_id or "").rpartition(":")
    offset = parse_offset(digits)
    return None if offset is None or not epoch else Position(epoch, offset)


class EventOutbox:
    """The queue of one event stream; see `broker.rooms.member.Outbox`.

    Past `limit_bytes` the stream ends, unless the rule of its room says otherwise: its client reconnects by itself and
    recovers what it missed. With the policy "latest", events are held back as soon as a chunk waits. Replies may take
    twice the limit. A frame larger than the limit is queued when the queue is empty.
    """

    def __init__(
        self,
        codec: Codec,
        *,
        limit_bytes: int,
        disconnect: Callable[[CloseCode, str], None],
        tally: Tally,
        backlog: Backlog,
    ) -> None:
        """`tally` and `backlog` are the node's."""
        self._codec = codec
        self._limit_bytes = limit_bytes
        self._disconnect = disconnect
        self._tally = tally
        self._backlog = backlog
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._held = HeldNotices()
        """Is empty unless frames are queued."""
        self._waiting = 0
        """Deliveries in the queue, held back, or in the chunk that is being sent."""
        self._in_flight = 0
        self._is_closed = False
        self.written_at: float | None = None
        """When something was last taken to be sent, in trio time."""
        self._changed = Wakeup()

    @property
    def codec(self) -> Codec:
        """The codec of its frames."""
        return self._codec

    @property
    def queued_bytes(self) -> int:
        """Bytes in the queue."""
        return self._bytes

    def offer(self, frame: RoomFrame) -> bool:
        """Queue a frame, or return False past the limit; a closed outbox drops it and returns True."""
        if (self._frames or self._held) and not self._is_closed:
            is_latest = frame.source.slow_reader == "latest"
            limit = min(self._limit_bytes, CHUNK_BYTES) if is_latest else self._limit_bytes
            if self._held or self._bytes + len(frame) > limit:
                return False
        self._put(frame)
        return True

    def write_or_offer(self, frame: RoomFrame) -> bool:
        """See `offer`: each stream is written by a task of its own."""
        return self.offer(frame)

    def hold(self, frame: RoomFrame) -> int:
        """Treat a frame that `offer` has just refused by the policy of the room; returns how many notices are lost."""
        policy = frame.source.slow_reader
        if policy in {"drop", "latest"}:
            lost = self._held.add(frame, keeps_latest=policy == "latest", space_bytes=self._limit_bytes)
            self._note_waiting(frame.deliveries - lost)
            self._note_backlog()
            return lost
        self._disconnect(CloseCode.TOO_SLOW, "reads too slowly")
        return len(frame.notices)

    def relieve(self) -> Relief | None:
        """See `broker.sessions.backlog`."""
        if self._is_closed:
            return None
        frames = [frame for frame in self._frames if isinstance(frame, RoomFrame)]
        is_held_back = all(frame.source.slow_reader in {"drop", "latest"} for frame in frames)
        if not is_held_back or not (frames or self._held.size_bytes):
            self._disconnect(CloseCode.TOO_SLOW, "reads too slowly")
            return "closed"
        before = count_in(frames) + self._held.notices
        kept = [frame for frame in self._frames if not isinstance(frame, RoomFrame)]
        self._frames = deque(kept)
        self._bytes = sum(map(len, kept))
        self._held.add_earlier(
            [(frame, frame.source.slow_reader == "latest") for frame in frames],
            space_bytes=self._limit_bytes if frames else 0,
        )
        lost = before - self._held.notices
        self._tally.deliveries_lost += lost
        self._note_waiting(-lost)
        self._note_backlog()
        return "dropped"

    def _note_waiting(self, deliveries: int) -> None:
        self._waiting += deliveries
        self._tally.waiting += deliveries

    def _note_gone(self, deliveries: int) -> None:
        self._tally.gone += deliveries
        self._note_waiting(-deliveries)

    def _note_backlog(self) -> None:
        self._backlog.note(self, self._bytes + self._held.size_bytes)

    def release(self, room: str | None = None) -> None:
        """Queue what is held back, with its gaps."""
        before = self._held.notices
        released = self._held.release(room)
        # They wait on, as frames.
        self._note_waiting(self._held.notices - before)
        for source, notices in released:
            if notices:
                self._put(released_frame(self._codec.encode(notices), source, notices))

    def reply(self, *notices: Notice) -> None:
        """Queue notices for this recipient alone; past twice the limit the stream ends."""
        frame = self.codec.encode(notices)
        if self._frames and self._bytes + len(frame) > 2 * self._limit_bytes:
            self._disconnect(CloseCode.TOO_SLOW, "reads too slowly")
        else:
            self._put(frame)

    def close(self, last: bytes, *, drop: bool = False) -> None:
        """Queue a last frame; with `drop`, the queue before it is dropped."""
        if self._is_closed:
            return
        self._note_gone(self._held.notices)
        self._held.clear()
        if drop:
            self._note_gone(count_in(self._frames))
            self._frames.clear()
            self._bytes = 0
        self._put(last)
        self._is_closed = True

    def abandon(self) -> None:
        """Drop what is queued and what comes."""
        self._is_closed = True
        self._note_gone(self._waiting)
        self._in_flight = 0
        self._held.clear()
        self._frames.clear()
        self._bytes = 0
        self._note_backlog()

    async def next_chunk(self, patience_seconds: float) -> bytes:
        """Wait for the next bytes to send, a heartbeat if none come in time; empty at the end."""
        self._note_waiting(-self._in_flight)  # what was sent before
        self._in_flight = 0
        with trio.move_on_after(patience_seconds):
            while not self._frames:
                if self._held:
                    self.release()
                    continue
                if self._is_closed:
                    return b""
                await self._changed.wait()
        self.written_at = trio.current_time()
        if not self._frames:
            return HEARTBEAT
        chunk = [self._frames.popleft()]
        size = len(chunk[0])
        while self._frames and size + len(self._frames[0]) <= CHUNK_BYTES:
            chunk.append(self._frames.popleft())
            size += len(chunk[-1])
        self._bytes -= size
        self._in_flight = count_in(chunk)
        if self._held and self._bytes <= self._limit_bytes // 2:
            self.release()
        self._note_backlog()
        return b"".join(chunk)

    def _put(self, frame: bytes) -> None:
        count = frame.deliveries if isinstance(frame, RoomFrame) else 0
        if self._is_closed:
            self._tally.gone += count
            return
        self._note_waiting(count)
        self._frames.append(frame)
        self._bytes += len(frame)
        self._note_backlog()
        self._changed.set()
