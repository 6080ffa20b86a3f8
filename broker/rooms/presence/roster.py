"""The members of a room on this node. Pure."""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import attrs

from broker.model import Shown
from broker.rooms.member import Codec, Member

Audiences: TypeAlias = Sequence[tuple[Codec, Sequence[Member]]]
"""Members grouped by codec."""


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
        self._connections: dict[str, int] = {}
        self._size = 0
        self._listeners = 0

    @property
    def size(self) -> int:
        """Users' connections in the room."""
        return self._size

    @property
    def is_empty(self) -> bool:
        """Whether there are no members, invisible ones included."""
        return not self._by_codec

    def __len__(self) -> int:
        """Recipients of an event: all members, invisible ones included."""
        return self._size + self._listeners

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
        if not member.is_visible:
            self._listeners += 1
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
        del members[member]
        if not members:
            del self._by_codec[codec]
        if not member.is_visible:
            self._listeners -= 1
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

    def audiences(self) -> Audiences:
        """Return a snapshot of the members, grouped by codec; the same one until they change."""
        if self._audiences is None:
            self._audiences = [(codec, tuple(members)) for codec, members in self._by_codec.items()]
        return self._audiences

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
