"""Who is in a room. Pure."""

from collections.abc import Iterator, Sequence

import attrs

from broker.rooms.member import Codec, Member


@attrs.define
class MemberCount:
    """Counts the users' connections in all rosters that share it, so that nobody has to walk over them."""

    members: int = 0


class Roster:
    """The members of a room, by the codec they want, and the connections of each user."""

    def __init__(self, member_count: MemberCount | None = None) -> None:
        self._member_count = member_count or MemberCount()
        # Dicts as ordered sets: events go out in the order in which members came.
        self._by_codec: dict[Codec, dict[Member, None]] = {}
        self._audiences: Sequence[tuple[Codec, Sequence[Member]]] | None = (
            None  # until somebody comes or goes
        )
        self._connections: dict[str, int] = {}
        self._size = 0
        self._listeners = 0

    @property
    def size(self) -> int:
        """How many users' connections are in the room; this is what users are told."""
        return self._size

    @property
    def is_empty(self) -> bool:
        """Whether nobody is in the room, nor listens to it."""
        return not self._by_codec

    def __len__(self) -> int:
        """How many recipients an event has: the size, and those that only listen."""
        return self._size + self._listeners

    def __contains__(self, member: Member) -> bool:
        """Whether a member is in the room."""
        return member in self._by_codec.get(member.outbox.codec, ())

    def __iter__(self) -> Iterator[Member]:
        """Iterate over a snapshot of the members."""
        return iter([member for members in self._by_codec.values() for member in members])

    def add(self, member: Member) -> bool:
        """Take a member in; returns False if it was in already."""
        members = self._by_codec.setdefault(member.outbox.codec, {})
        if member in members:
            return False
        self._audiences = None
        members[member] = None
        if not member.is_visible:
            self._listeners += 1
            return True
        self._size += 1
        self._member_count.members += 1
        self._connections[member.user_id] = self._connections.get(member.user_id, 0) + 1
        return True

    def discard(self, member: Member) -> bool:
        """Let a member go; returns False if it was not in."""
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

    def audiences(self) -> Sequence[tuple[Codec, Sequence[Member]]]:
        """Return a snapshot of the members, grouped by codec."""
        if self._audiences is None:
            self._audiences = [(codec, tuple(members)) for codec, members in self._by_codec.items()]
        return self._audiences

    def members_of(self, user_id: str) -> list[Member]:
        """Return the connections of one user."""
        if user_id not in self._connections:
            return []
        return [member for member in self if member.is_visible and member.user_id == user_id]

    def connections_of(self, user_id: str) -> int:
        """Return how many connections of a user are in the room."""
        return self._connections.get(user_id, 0)

    def users(self) -> tuple[tuple[str, int], ...]:
        """Return each user with the number of its connections."""
        return tuple(self._connections.items())
