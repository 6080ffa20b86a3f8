"""The notices that an outbox holds back while its peer reads too slowly. Pure.

With the policy "drop" these are only the offsets that a gap is to tell of. With "latest" the newest event of each key
is kept: of each type, event name, user and set of tags. Events that differ in one of these do not replace each other.
"""

from collections.abc import Iterator, Mapping, Sequence

import attrs

from broker.model import TagPairs
from broker.notices import Gap, Notice, RoomEvent, Withheld
from broker.rooms.frame import RoomFrame, Source, offsets_of, room_frame

NOTICE_BYTES = 192
"""Bytes that are counted for a held notice besides its content."""

_Key = tuple[str, str | None, str | None, TagPairs] | int
"""A notice that is no event replaces none: its key is a number."""


@attrs.define(eq=False)
class _HeldRoom:
    """The notices of one room, in the order of their arrival."""

    source: Source
    keeps_latest: bool
    kept: dict[_Key, Notice] = attrs.Factory(dict)
    spans: dict[str, tuple[int, int]] = attrs.Factory(dict)
    """The first and the last offset held back or lost, of each epoch."""
    others: int = 0
    """Kept notices that are no events."""

    def add(self, notice: Notice) -> tuple[int, int]:
        """Add a notice; returns how many are lost, that which it replaces or itself, and by how many bytes this grows."""
        self._note_offsets(notice)
        if not self.keeps_latest or isinstance(notice, Gap | Withheld):
            return 1, 0
        key = self._key_of(notice)
        replaced = self.kept.pop(key, None)
        self.kept[key] = notice
        return (0, _size_of(notice)) if replaced is None else (1, _size_of(notice) - _size_of(replaced))

    def drop_oldest(self) -> int | None:
        """Forget the notice that was held back first; returns its bytes, None if none is held."""
        return _size_of(self.kept.pop(next(iter(self.kept)))) if self.kept else None

    def release(self) -> list[Notice]:
        """Return the held notices in order, with a Gap in the place of each run of lost ones."""
        released: list[Notice] = []
        spans = dict(self.spans)
        for notice in self.kept.values():
            if isinstance(notice, RoomEvent) and (offset := notice.event.offset) is not None:
                while (epoch := next(iter(spans))) != notice.epoch:
                    released += self._gap(*spans.pop(epoch))
                first, last = spans[epoch]
                released += self._gap(first, offset - 1)
                spans[epoch] = offset + 1, last
            released.append(notice)
        for first, last in spans.values():
            released += self._gap(first, last)
        return released

    def widen(self, spans: Mapping[str, tuple[int, int]]) -> None:
        """Let gaps tell of these offsets too."""
        for epoch, (first, last) in spans.items():
            here = self.spans.get(epoch, (first, last))
            self.spans[epoch] = min(first, here[0]), max(last, here[1])

    def _gap(self, first: int, last: int) -> Iterator[Gap]:
        if first <= last:
            yield Gap(self.source.room, first, last)

    def _key_of(self, notice: Notice) -> _Key:
        if isinstance(notice, RoomEvent):
            header = notice.event.header
            return header.type, header.name, header.sender, tuple(sorted(header.tags))
        self.others += 1
        return self.others

    def _note_offsets(self, notice: Notice) -> None:
        offsets = offsets_of(notice)
        if not offsets:
            return
        epoch = next(reversed(self.spans), "")  # of a Gap, which names none
        if isinstance(notice, RoomEvent | Withheld):
            epoch = notice.epoch
        self.widen({epoch: offsets})


class HeldNotices:
    """The notices of all rooms that one outbox holds back."""

    def __init__(self) -> None:
        self._rooms: dict[str, _HeldRoom] = {}
        self.size_bytes = 0
        """What they take."""

    def __bool__(self) -> bool:
        """Whether a room is held back, if only with the offsets of a gap."""
        return bool(self._rooms)

    def __contains__(self, room: str) -> bool:
        return room in self._rooms

    @property
    def notices(self) -> int:
        """The number of the notices that are kept."""
        return sum(len(room.kept) for room in self._rooms.values())

    def add(self, frame: RoomFrame, *, keeps_latest: bool, space_bytes: int) -> int:
        """Hold back a frame, behind those of its room; returns how many notices are lost by that.

        Past `space_bytes` for all rooms, the oldest notices of this one are lost.
        """
        source = frame.source
        room = self._rooms.get(source.room)
        if room is None:
            room = self._rooms[source.room] = _HeldRoom(source, keeps_latest)
        lost = 0
        for notice in frame.notices:
            replaced, growth = room.add(notice)
            lost += replaced
            self.size_bytes += growth
        while self.size_bytes > space_bytes and (size := room.drop_oldest()) is not None:
            lost += 1
            self.size_bytes -= size
        return lost

    def add_earlier(self, frames: Sequence[tuple[RoomFrame, bool]], *, space_bytes: int) -> int:
        """Hold back frames that were queued before all that is held already; returns how many notices are lost by that.

        With each frame, whether its room keeps the latest.
        """
        later, self._rooms, self.size_bytes = self._rooms, {}, 0
        lost = 0
        for frame, keeps_latest in frames:
            lost += self.add(frame, keeps_latest=keeps_latest, space_bytes=space_bytes)
        for name, room in later.items():
            kept = room_frame(b"", room.source, list(room.kept.values()))
            lost += self.add(kept, keeps_latest=room.keeps_latest, space_bytes=space_bytes)
            self._rooms[name].widen(room.spans)
        return lost

    def release(self, room: str | None = None) -> list[tuple[Source, Sequence[Notice]]]:
        """Forget all that is held back, or that of one room, and return it with its gaps."""
        names = list(self._rooms) if room is None else [room] if room in self._rooms else []
        released: list[tuple[Source, Sequence[Notice]]] = []
        for name in names:
            held = self._rooms.pop(name)
            self.size_bytes -= sum(map(_size_of, held.kept.values()))
            released.append((held.source, held.release()))
        return released

    def clear(self) -> None:
        """Forget all, as nothing more is to be written."""
        self._rooms.clear()
        self.size_bytes = 0


def _size_of(notice: Notice) -> int:
    return NOTICE_BYTES + (len(notice.event.content) if isinstance(notice, RoomEvent) else 0)
