"""The frames that a large room sends to its members, and which of them each member has. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from broker.rooms.frame import RoomFrame, room_frame
from broker.rooms.member import Member
from broker.rooms.presence.roster import Audiences

MEMBERS_PER_PART = 32
BYTES_PER_PART = 65_536
"""Size of a part: the clock is read between two parts, which costs about as much as one offer."""

MAX_BYTES = 65_536
"""After so much that some members still lack, nothing is added."""

TAKES_PER_NEWEST = 3
"""Every so many parts, one is for the first of the members and not for those who lack most. Publishers that wait for
their own events publish again sooner then, and those who lack most are sent all of it in one write."""


class Frames(NamedTuple):
    """The same notices, as one frame for each audience; without bytes, if all of them are withheld."""

    by_audience: Sequence[RoomFrame]
    others: Mapping[Member, RoomFrame] = {}
    """The frames of members that get other notices than their audience."""

    @property
    def size_bytes(self) -> int:
        """The size of the largest."""
        return max((len(frame) for frame in self.by_audience), default=0)


class Part(NamedTuple):
    """The next members to be sent something, and all that they lack."""

    members: Sequence[Member]
    frame: RoomFrame
    others: Sequence[tuple[Member, RoomFrame]] = ()
    """Further members, each with a frame of its own."""


class _Segment(NamedTuple):
    """Neighbouring members of one audience that have the same frames."""

    audience: int
    start: int
    end: int
    had: int
    """The number of frames that they have."""


class Broadcast:
    """Frames that are added while earlier ones are being sent are joined with those for the members who lack both.

    Each member is sent each frame once, in the order in which they were added.
    """

    def __init__(self, audiences: Audiences) -> None:
        self.audiences = audiences
        self._frames: list[Frames] = []
        self._bytes = 0
        self._segments = [_Segment(n, 0, len(members), 0) for n, (_, members, _) in enumerate(audiences)]
        self._takes = 0
        self._awaiting: list[tuple[int, Callable[[], object]]] = []  # each with the frames that it waits for

    @property
    def is_full(self) -> bool:
        """Whether so much is still to be sent that nothing more is to be added."""
        return self._bytes >= MAX_BYTES

    def add(self, frames: Frames) -> None:
        """Add frames for all members, behind those before."""
        self._frames.append(frames)
        self._bytes += frames.size_bytes

    def call_when_sent(self, action: Callable[[], object]) -> None:
        """Call `action` once everything added so far has been sent."""
        self._awaiting.append((len(self._frames), action))

    def take(self) -> Part:
        """Return what is to be sent next, and count it as sent; only while `settle` does not return True."""
        lacking = [at for at, segment in enumerate(self._segments) if segment.had < len(self._frames)]
        self._takes += 1
        is_newest = self._takes % TAKES_PER_NEWEST == 0
        at = lacking[0] if is_newest else min(lacking, key=lambda at: self._segments[at].had)
        segment = self._segments[at]
        lacked = self._frames[segment.had :]
        frame = _joined([frames.by_audience[segment.audience] for frames in lacked])
        count = max(1, min(MEMBERS_PER_PART, BYTES_PER_PART // max(1, len(frame))))
        end = min(segment.end, segment.start + count)
        self._note_sent(at, end)
        members = self.audiences[segment.audience].members[segment.start : end]
        excepted = {member for frames in lacked if frames.others for member in frames.others}
        if not excepted:
            return Part(members, frame)
        others = [
            (member, _joined([_frame_for(member, segment.audience, frames) for frames in lacked]))
            for member in members
            if member in excepted
        ]
        return Part([member for member in members if member not in excepted], frame, others)

    def _note_sent(self, at: int, end: int) -> None:
        """Note that the members of a segment have everything, up to `end`."""
        segment = self._segments[at]
        pieces = [segment._replace(end=end, had=len(self._frames)), segment._replace(start=end)]
        around = [*self._segments[max(0, at - 1) : at], *pieces, *self._segments[at + 1 : at + 2]]
        self._segments[max(0, at - 1) : at + 2] = _merged(around)

    def settle(self) -> bool:
        """Forget what all members have; returns whether that is everything."""
        sent = min((segment.had for segment in self._segments), default=len(self._frames))
        if sent:
            self._bytes -= sum(frames.size_bytes for frames in self._frames[:sent])
            del self._frames[:sent]
            self._segments = [segment._replace(had=segment.had - sent) for segment in self._segments]
            self._awaiting = [(count - sent, action) for count, action in self._awaiting]
            while self._awaiting and self._awaiting[0][0] <= 0:
                self._awaiting.pop(0)[1]()
        return not self._frames


def _frame_for(member: Member, audience: int, frames: Frames) -> RoomFrame:
    return frames.others.get(member, frames.by_audience[audience])


def _joined(frames: Sequence[RoomFrame]) -> RoomFrame:
    if len(frames) == 1:
        return frames[0]
    notices = [notice for frame in frames for notice in frame.notices]
    return room_frame(b"".join(frames), frames[0].source, notices)


def _merged(segments: Sequence[_Segment]) -> list[_Segment]:
    """Return the segments with neighbours that have the same frames as one, and without empty ones."""
    merged: list[_Segment] = []
    for segment in segments:
        if segment.start == segment.end:
            continue
        if merged and (merged[-1].audience, merged[-1].had) == (segment.audience, segment.had):
            merged[-1] = merged[-1]._replace(end=segment.end)
        else:
            merged.append(segment)
    return merged
