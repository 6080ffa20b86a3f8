"""Members of rooms that remember what they were sent, with outboxes that fail when they are told to."""

from collections.abc import Sequence
from contextlib import suppress
from typing import TypeVar

import trio

from actors import Ref
from broker.errors import CloseCode, RefusalReason
from broker.model import Claims, Event, Shown
from broker.notices import Joined, Notice, RoomEvent
from broker.rooms.frame import RoomFrame, SlowReader, Source, room_frame
from broker.rooms.messages import RoomMessage

N = TypeVar("N", bound=Notice)


def framed(data: bytes, *offsets: int, room: str = "den", slow_reader: SlowReader | None = None) -> RoomFrame:
    """Return `data` as a room's frame of the events at `offsets`; without any, of one ephemeral event."""
    notices = [RoomEvent(room, "e", Event(b"{}", 0, offset)) for offset in offsets or (None,)]
    return room_frame(data, Source(room, slow_reader), notices)


class NoticesCodec:
    """Its frames say where it keeps the notices, so that a test can look at them, also in joined frames."""

    def __init__(self) -> None:
        self.encoded = 0
        self._notices: list[Notice] = []

    def encode(self, notices: Sequence[Notice]) -> bytes:
        self.encoded += 1
        first = len(self._notices)
        self._notices += notices
        return b"".join([b"%8d" % at for at in range(first, len(self._notices))])

    def decode(self, frame: bytes) -> tuple[Notice, ...]:
        return tuple(self._notices[int(frame[at : at + 8])] for at in range(0, len(frame), 8))


class RefusedFrame(Exception):
    """As a fault of an outbox: the next offer is refused, as if too much waited."""


class RecordingOutbox:
    """Stands where a socket would."""

    def __init__(self, codec: NoticesCodec) -> None:
        self.codec = codec
        self.heard: list[Notice] = []
        self.heard_at: list[float] = []
        """The trio time of each notice."""
        self.replies: list[tuple[Notice, ...]] = []
        """What came together as one answer."""
        self.losses: list[tuple[str, tuple[int, int] | None]] = []
        self.writes = 0
        """Frames that were to be written at once."""
        self.is_full = False
        self.faults: list[Exception | None] = []
        """What the next offers and replies raise; None lets one pass."""

    def offer(self, frame: RoomFrame) -> bool:
        try:
            self._fail()
        except RefusedFrame:
            return False
        if self.is_full:
            return False
        self.note(self.codec.decode(frame))
        return True

    def write_or_offer(self, frame: RoomFrame) -> bool:
        self.writes += 1
        return self.offer(frame)

    def hold(self, frame: RoomFrame) -> int:
        self.losses.append((frame.source.room, frame.offsets))
        return len(frame.notices)

    def release(self, room: str) -> None:
        pass

    def reply(self, *notices: Notice) -> None:
        # An answer is never refused.
        with suppress(RefusedFrame):
            self._fail()
        self.replies.append(notices)
        self.note(notices)

    def note(self, notices: tuple[Notice, ...]) -> None:
        self.heard += notices
        self.heard_at += [trio.current_time()] * len(notices)

    def _fail(self) -> None:
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault


class Person:
    """A member that remembers what became of it."""

    def __init__(
        self,
        user_id: str,
        codec: NoticesCodec | None = None,
        *,
        is_visible: bool = True,
        outbox: RecordingOutbox | None = None,
        shown: Shown | None = None,
    ) -> None:
        self.user_id = user_id
        self.shown = shown or Shown(user_id)
        self.claims = None if "/" in user_id else Claims(user_id)
        self.is_visible = is_visible
        self.outbox = outbox or RecordingOutbox(codec or NoticesCodec())
        self.rooms: list[str] = []
        self.removals: list[str] = []
        self.disconnects: list[tuple[CloseCode, str]] = []
        self.disconnect_fault: Exception | None = None
        """What `disconnect` raises."""

    def __repr__(self) -> str:
        return f"<{self.user_id}>"

    def added_to(self, room: str, ref: Ref[RoomMessage]) -> None:
        pass

    def removed_from(self, room: str) -> None:
        self.removals.append(room)

    def disconnect(self, code: CloseCode, reason: str, *, why: RefusalReason | None = None) -> None:
        self.disconnects.append((code, reason))
        if self.disconnect_fault is not None:
            raise self.disconnect_fault

    def check(self, now: float, wall_now: float) -> None:
        """Be checked as a connection is."""

    def send_reconnect(self, after_ms: int) -> None:
        """Be asked to come back, as a connection is."""

    @property
    def heard(self) -> list[Notice]:
        return self.outbox.heard

    def heard_of(self, kind: type[N]) -> list[N]:
        return [notice for notice in self.heard if isinstance(notice, kind)]

    def offsets(self) -> list[int | None]:
        return [said.event.offset for said in self.heard_of(RoomEvent)]

    def texts(self) -> list[str]:
        return [said.event.content.decode() for said in self.heard_of(RoomEvent)]

    def forget(self) -> None:
        self.heard.clear()
        self.outbox.heard_at.clear()

    def joined(self) -> Joined:
        """Return the one `joined` heard so far."""
        [joined] = self.heard_of(Joined)
        return joined
