"""The members of a room on this node. Pure."""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import attrs

from broker.model import Shown, TagFilter
from broker.rooms.choice import Audience, Choice
from broker.rooms.member import Codec, Member

Audiences: TypeAlias = Sequence[Audience]
"""Members grouped by codec and filter."""


@attrs.define
class MemberCount:
    """The sum of users' connections over all rosters that share it, kept up to date for constant-time statistics."""

    members: int = 0


class Roster:
    """The members of a room by codec, and the number of connections of each user."""

    def __init__(self, member_count: MemberCount | None = None) -> None:
        self._member_count = member_count or MemberCount()
        # Dicts as ordered sets: events go out in the order in which members joined.
        self._by_codec: dict[Codec, dict[Member, Shown]] = {}
        self._audiences: Audiences | None = None  # a cache
        self.has_choices = False
        """Whether a member has a filter."""
        # Of the members that have a filter; those with the same codec and filter share one.
        self._choices: dict[Member, Choice] = {}
        self._shared: dict[tuple[Codec, TagFilter], Choice] = {}
        self._connections: dict[str, int] = {}
        self._size = 0
        self.recipients = 0
        """Recipients of an event: all members, invisible ones included."""

    @property
    def size(self) -> int:
        """Users' connections in the room."""
        return self._size

    @property
    def is_empty(self) -> bool:
        """Whether there are no members, invisible ones included."""
        return not self._by_codec

    def __len__(self) -> int:
        """Return `recipients`."""
        return self.recipients

    def __contains__(self, member: Member) -> bool:
        """Whether a member is in the room."""
        return member in self._by_codec.get(member.outbox.codec, ())

    def __iter__(self) -> Iterator[Member]:
        """Iterate over a snapshot of the members."""
        return iter([member for members in self._by_codec.values() for member in members])

    def add(self, member: Member, shown: Shown | None = None) -> bool:
        """Add a member, which shows all of its `shown` if none is given; returns False if it was present already."""
        members = self._by_codec.setdefault(member.outbox.codec, {})
        if member in members:
            return False
        self._audiences = None
        members[member] = member.shown if shown is None else shown
        self.recipients += 1
        if not member.is_visible:
            return True
        self._size += 1
        self._member_count.members += 1
        self._connections[member.user_id] = self._connections.get(member.user_id, 0) + 1
        return True

    def discard(self, member: Member) -> bool:
        """Remove a member; returns False if it was not present."""
        codec = member.outbox.codec
        members = self._by_codec.get(codec, {})
        if member not in members:
            return False
        self._audiences = None
        if self.has_choices:
            self._choices.pop(member, None)
            self.has_choices = bool(self._choices)
        del members[member]
        if not members:
            del self._by_codec[codec]
        self.recipients -= 1
        if not member.is_visible:
            return True
        self._size -= 1
        self._member_count.members -= 1
        left = self._connections[member.user_id] - 1
        if left:
            self._connections[member.user_id] = left
        else:
            del self._connections[member.user_id]
        return True

    def shown_by(self, member: Member) -> Shown | None:
        """Return what a member shows; None if it is not in the room."""
        return self._by_codec.get(member.outbox.codec, {}).get(member)

    def set_shown(self, member: Member, shown: Shown) -> None:
        """Set what a member shows that is in the room."""
        self._by_codec[member.outbox.codec][member] = shown

    def connections(self) -> Iterator[Shown]:
        """Iterate over what each connection shows that counts as a user's."""
        for members in self._by_codec.values():
            for member, shown in members.items():
                if member.is_visible:
                    yield shown

    def choose(self, member: Member, wanted: TagFilter | None) -> None:
        """Set which events a member gets that is in the room; None: all."""
        before = self._choices.get(member)
        if (None if before is None else before.wanted) == wanted:
            return
        self._audiences = None
        self._choices.pop(member, None)
        if wanted is not None:
            self._choices[member] = self._shared.setdefault((member.outbox.codec, wanted), Choice(wanted))
        self.has_choices = bool(self._choices)

    def wanted_by(self, member: Member) -> TagFilter | None:
        """Return the filter of a member, if it has one."""
        choice = self._choices.get(member)
        return None if choice is None else choice.wanted

    @property
    def has_withheld(self) -> bool:
        """Whether a member is still to be told of events that were withheld from it."""
        return any(choice.withheld is not None for choice in self._shared.values())

    def forget_withheld(self) -> None:
        """Forget the events that were withheld, as their epoch is over."""
        for choice in self._shared.values():
            choice.withheld = None

    def audiences(self) -> Audiences:
        """Return a snapshot of the members, grouped by codec and filter; the same one until they change."""
        if self._audiences is None:
            self._audiences = (
                self._group()
                if self._shared
                else [Audience(codec, tuple(members)) for codec, members in self._by_codec.items()]
            )
        return self._audiences

    def _group(self) -> list[Audience]:
        """Group the members also by filter, and forget the filters that none has any more."""
        groups: dict[tuple[Codec, Choice | None], list[Member]] = {}
        for codec, members in self._by_codec.items():
            for member in members:
                groups.setdefault((codec, self._choices.get(member)), []).append(member)
        self._shared = {(codec, choice.wanted): choice for codec, choice in groups if choice is not None}
        return [Audience(codec, tuple(members), choice) for (codec, choice), members in groups.items()]

    def members_of(self, user_id: str) -> list[Member]:
        """Return the connections of one user."""
        if user_id not in self._connections:
            return []
        return [member for member in self if member.is_visible and member.user_id == user_id]

    def connections_of(self, user_id: str) -> int:
        """Return the number of a user's connections in the room."""
        return self._connections.get(user_id, 0)

    def users(self) -> tuple[tuple[str, int], ...]:
        """Return each user with the number of its connections."""
        return tuple(self._connections.items())
