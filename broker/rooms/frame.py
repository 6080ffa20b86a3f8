"""The frames that a room sends to its members."""

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import attrs

from broker.notices import Gap, Notice, RoomEvent, Withheld

SlowReader: TypeAlias = Literal["disconnect", "drop", "latest"]
"""The policy towards a member that reads too slowly: it is disconnected; its events are dropped, and a gap says which;
or it is sent only the newest event of each key (`broker.rooms.held`), and gaps for those between."""


@attrs.frozen
class Source:
    """The room of a frame."""

    room: str
    slow_reader: SlowReader | None = None
    """None: the policy of the member's connection."""


class RoomFrame(bytes):
    """Notices of a room, encoded for some of its members; made by `room_frame`.

    It is written as the bytes that it is. An outbox that cannot write it looks at its notices.
    """

    source: Source
    notices: Sequence[Notice]

    @property
    def deliveries(self) -> int:
        """How many deliveries it is of those that the node has counted."""
        return len(self.notices)

    @property
    def offsets(self) -> tuple[int, int] | None:
        """The first and the last offset in it, for the Gap of a member that misses it; None if nothing in it is stored."""
        offsets = [offset for notice in self.notices for offset in offsets_of(notice)]
        return (offsets[0], offsets[-1]) if offsets else None


class ReleasedFrame(RoomFrame):
    """Notices that were held back, with gaps that the outbox has made itself: those are no deliveries."""

    @property
    def deliveries(self) -> int:
        """See RoomFrame."""
        return sum(1 for notice in self.notices if not isinstance(notice, Gap))


def count_in(frames: Iterable[bytes | memoryview]) -> int:
    """Return how many deliveries are in frames that wait; a memoryview is the rest of one that was begun."""
    count = 0
    for frame in frames:
        if type(frame) is RoomFrame:
            count += len(frame.notices)  # almost always
        elif type(frame) is not bytes:
            whole = frame.obj if isinstance(frame, memoryview) else frame
            count += whole.deliveries if isinstance(whole, RoomFrame) else 0
    return count


def room_frame(data: bytes, source: Source, notices: Sequence[Notice]) -> RoomFrame:
    """Return the frame for some members; without data if nothing is to be sent to them."""
    frame = RoomFrame(data)
    frame.source = source
    frame.notices = notices
    return frame


def released_frame(data: bytes, source: Source, notices: Sequence[Notice]) -> ReleasedFrame:
    """Return the frame of notices that were held back for one member."""
    frame = ReleasedFrame(data)
    frame.source = source
    frame.notices = notices
    return frame


def offsets_of(notice: Notice) -> tuple[int, int] | tuple[()]:
    """Return the first and the last offset that a notice stands for; none for one that is not stored."""
    if isinstance(notice, RoomEvent):
        offset = notice.event.offset
        return () if offset is None else (offset, offset)
    if isinstance(notice, Gap):
        return notice.first, notice.last
    if isinstance(notice, Withheld):
        return notice.first, notice.offset
    return ()
