"""The members on other nodes of a room that this node owns. Pure."""

from collections.abc import Sequence
from itertools import islice

import attrs

from broker.engine.presence import RemotePresence
from broker.model import Position, Shown
from broker.room_actors.turn import PrivateSay
from broker.room_actors.values import Member, member_of

MOST_GONE = 10_000
"""Members of lost nodes that are remembered, as they may be back."""
MOST_NODES = 256
"""Nodes of which it is remembered how many requests they have sent."""


@attrs.frozen
class _Guest:
    node: str
    shown: Shown
    member: Member
    joined_at: Position | None = None
    """The position of the first event that the turn of its join has said, if that was here and has said one."""


@attrs.frozen
class _Received:
    """The requests of one node that were done, in their order."""

    generation: int
    count: int


@attrs.define
class Guests:
    """The members, by connection; outlives a failure of the room's code."""

    is_known: bool = False
    """Whether they were read since this node became the owner."""
    _by_connection: dict[str, _Guest] = attrs.Factory(dict)
    _received: dict[str, _Received] = attrs.Factory(dict)
    """By node, that of the latest request at the end. A node that is forgotten has requests sent back once."""
    _missing: frozenset[str] = frozenset()
    """Those that the latest check did not find. A node may take a while to tell of a new member."""
    _found: frozenset[str] = frozenset()
    """Those that the latest check found, and that were not known. A node may take a while to tell that a member has left."""
    _gone: dict[str, None] = attrs.Factory(dict)
    """Those that were lost, the latest at the end."""

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._by_connection)

    def __contains__(self, connection: str) -> bool:
        """Whether a connection is one of them."""
        return connection in self._by_connection

    def members(self) -> Sequence[Member]:
        """Return all of them."""
        return [guest.member for guest in self._by_connection.values()]

    def learn(self, presence: RemotePresence) -> None:
        """Begin with those that the other nodes have told of."""
        self._by_connection = {
            connection: _Guest(node, shown, member_of(shown))
            for connection, (node, shown) in _present_in(presence).items()
        }
        self._missing = frozenset()
        self.is_known = True

    def forget(self) -> None:
        """Forget all, as this node is not the owner any more."""
        self._by_connection = {}
        self._received = {}
        self._found, self._gone = frozenset(), {}
        self.is_known = False

    def add(self, node: str, shown: Shown) -> None:
        """Add one that has joined, if it is not there."""
        self._gone.pop(shown.connection, None)
        known = self._by_connection.get(shown.connection)
        if known is None or known.shown != shown:
            joined_at = None if known is None else known.joined_at
            self._by_connection[shown.connection] = _Guest(node, shown, member_of(shown), joined_at)

    def note_joined(self, connection: str, position: Position | None) -> None:
        """Note what the turn of a member's join has said first."""
        if guest := self._by_connection.get(connection):
            self._by_connection[connection] = attrs.evolve(guest, joined_at=position)

    def joined_at(self, connection: str) -> Position | None:
        """Return what `note_joined` was told."""
        guest = self._by_connection.get(connection)
        return None if guest is None else guest.joined_at

    def discard(self, connection: str) -> None:
        """Remove one, if it is there."""
        self._by_connection.pop(connection, None)

    def is_next(self, node: str, generation: int, ordinal: int) -> bool:
        """Whether all requests before this one were done; see Forwarder. Those of older versions have no ordinal."""
        if not ordinal:
            return True
        received = self._received.get(node)
        if received is None or received.generation < generation:
            return ordinal == 1
        return received.generation == generation and received.count == ordinal - 1

    def note_next(self, node: str, generation: int, ordinal: int) -> None:
        """Note that the next request of a node will be done here."""
        self._received.pop(node, None)
        self._received[node] = _Received(generation, ordinal)
        if len(self._received) > MOST_NODES:
            del self._received[next(iter(self._received))]

    def nodes_of(self, say: PrivateSay) -> set[str]:
        """Return the nodes that have members who get a message."""
        return {
            guest.node
            for connection, guest in self._by_connection.items()
            if say.is_for(guest.member.user_id, connection)
        }

    def take_lost(self, presence: RemotePresence) -> Sequence[Shown]:
        """Remove those that two checks in a row have not found; returns them."""
        missing = self._by_connection.keys() - _present_in(presence).keys()
        lost = missing & self._missing
        self._missing = frozenset(missing - lost)
        self._gone |= dict.fromkeys(sorted(lost))
        for connection in list(islice(self._gone, max(len(self._gone) - MOST_GONE, 0))):
            del self._gone[connection]
        return [self._by_connection.pop(connection).shown for connection in sorted(lost)]

    def learn_found(self, presence: RemotePresence) -> Sequence[tuple[str, Shown]]:
        """Add those that two checks in a row have found; returns those that were lost, with their nodes, and does not add them."""
        present = _present_in(presence)
        unknown = present.keys() - self._by_connection.keys()
        returned = unknown & self._gone.keys()
        for connection in (unknown - returned) & self._found:
            self.add(*present[connection])
        self._found = frozenset(unknown - returned - self._found)
        return [present[connection] for connection in sorted(returned)]

    @property
    def must_check_again(self) -> bool:
        """Whether a check has more to find out."""
        return bool(self._by_connection or self._found)

    def is_gone(self, connection: str) -> bool:
        """Whether a member was lost, and has not joined since."""
        return connection in self._gone

    def note_left(self, connection: str) -> None:
        """Note that a member that was lost will not be back."""
        self._gone.pop(connection, None)


def _present_in(presence: RemotePresence) -> dict[str, tuple[str, Shown]]:
    """Return the members on other nodes with their nodes, by connection."""
    return {
        connection: (node, shown)
        for node, members in presence.nodes.items()
        for connection, shown in members.members.items()
    }
