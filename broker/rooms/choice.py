"""The events that a member is not to get, by its own filter or by the publisher's exclusion. Pure.

Offsets count all events of a room, so the member is told of those withheld: a Withheld stands in their place. Without a
filter each withheld event has one of its own, so that a client that knows nothing of them sees no hole in the offsets.
With a filter, which only clients that know them have, neighbours are one.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import attrs

from broker.model import Event, Excluded, TagFilter
from broker.notices import Gap, Notice, RoomEvent, Withheld
from broker.rooms.member import Codec, Member


@attrs.define(eq=False)
class Choice:
    """A filter that members with the same codec share, and the latest events withheld from them.

    They are told of these before the next event that they get, or when `take_withheld` is called. A member that joined
    meanwhile may be told of events before its own position, which it knows to ignore.
    """

    wanted: TagFilter
    withheld: Withheld | None = None

    def select(self, notices: Iterable[Notice]) -> list[Notice]:
        """Return the notices for these members."""
        selected: list[Notice] = []
        for notice in notices:
            if isinstance(notice, RoomEvent):
                offset = notice.event.offset
                if not self.wanted.matches(notice.event.header.tags):
                    if offset is not None:
                        self.withheld = _extended(self.withheld, notice.room, notice.epoch, offset)
                    continue
                if offset is not None:
                    selected += self.take_withheld()
            elif isinstance(notice, Gap):
                selected += self.take_withheld()
            selected.append(notice)
        return selected

    def take_withheld(self) -> list[Notice]:
        """Return the notice of the events that were withheld since the last one, if there are any."""
        withheld, self.withheld = self.withheld, None
        return [] if withheld is None else [withheld]


class Audience(NamedTuple):
    """Members with the same codec and the same filter."""

    codec: Codec
    members: Sequence[Member]
    choice: Choice | None = None
    """None: they get all events."""


class Parcel(NamedTuple):
    """The notices for an audience, but for those of its members that are excluded from some."""

    audience: Audience
    notices: Sequence[Notice]
    others: Mapping[Member, Sequence[Notice]]
    """The notices for these."""


def excludes_any(notices: Iterable[Notice]) -> bool:
    """Whether one of the notices is not for all members."""
    for notice in notices:
        if isinstance(notice, RoomEvent) and notice.event.header.excluded is not None:
            return True
    return False


def divide(audiences: Iterable[Audience], notices: Sequence[Notice]) -> list[Parcel]:
    """Return the notices for each audience; a filter keeps count of those withheld."""
    parcels: list[Parcel] = []
    for audience in audiences:
        selected = notices if audience.choice is None else audience.choice.select(notices)
        excluded = [
            notice.event.header.excluded
            for notice in selected
            if isinstance(notice, RoomEvent) and notice.event.header.excluded is not None
        ]
        others = {
            member: without_excluded(selected, member)
            for member in audience.members
            if excluded and any(_is_excluded(each, member) for each in excluded)
        }
        parcels.append(Parcel(audience, selected, others))
    return parcels


def without_excluded(notices: Iterable[Notice], member: Member) -> list[Notice]:
    """Return the notices for a member; a Withheld stands in the place of each stored event that it is excluded from."""
    selected: list[Notice] = []
    for notice in notices:
        if isinstance(notice, RoomEvent) and _is_excluded(notice.event.header.excluded, member):
            offset = notice.event.offset
            if offset is not None:
                selected.append(Withheld(notice.room, notice.epoch, offset, offset))
        else:
            selected.append(notice)
    return selected


def is_for(event: Event, member: Member, wanted: TagFilter | None) -> bool:
    """Whether a member with this filter gets an event."""
    header = event.header
    return not _is_excluded(header.excluded, member) and (wanted is None or wanted.matches(header.tags))


def choose_stored(
    events: Sequence[Event], member: Member, wanted: TagFilter | None, room: str, epoch: str
) -> tuple[Event | Withheld, ...]:
    """Return stored events for a member, each run of those that are not for it as one Withheld, or one by one."""
    if wanted is None and all(event.header.excluded is None for event in events):
        return tuple(events)
    chosen: list[Event | Withheld] = []
    for event in events:
        if is_for(event, member, wanted):
            chosen.append(event)
            continue
        assert event.offset is not None, "it is stored"
        before = chosen[-1] if wanted is not None and chosen else None
        if isinstance(before, Withheld):
            chosen[-1] = _extended(before, room, epoch, event.offset)
        else:
            chosen.append(Withheld(room, epoch, event.offset, event.offset))
    return tuple(chosen)


def _is_excluded(excluded: Excluded | None, member: Member) -> bool:
    return excluded is not None and excluded.matches(member.user_id, member.shown.connection)


def _extended(withheld: Withheld | None, room: str, epoch: str, offset: int) -> Withheld:
    """Return what is withheld with one more event, which may stand before it where the newest come first."""
    if withheld is None or withheld.epoch != epoch:
        return Withheld(room, epoch, offset, offset)
    return Withheld(room, epoch, min(withheld.first, offset), max(withheld.offset, offset))
