"""The members on other nodes of a room that this node owns. Pure."""

from collections.abc import Sequence

import attrs

from broker.engine.presence import RemotePresence
from broker.model import Shown
from broker.room_actors.turn import PrivateSay
from broker.room_actors.values import Member, member_of


@attrs.frozen
class _Guest:
    node: str
    shown: Shown
    member: Member


@attrs.define
class Guests:
    """The members, by connection; outlives a failure of the room's code."""

    is_known: bool = False
    """Whether they were read since this node became the owner."""
    _by_connection: dict[str, _Guest] = attrs.Factory(dict)
    _sent_back: dict[str, int] = attrs.Factory(dict)
    """By node, the latest generation of requests of which one was sent back; see Forwarder."""
    _missing: frozenset[str] = frozenset()
    """Those that the latest check did not find. A node may take a while to tell of a new member."""

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._by_connection)

    def members(self) -> Sequence[Member]:
        """Return all of them."""
        return [guest.member for guest in self._by_connection.values()]

    def learn(self, presence: RemotePresence) -> None:
        """Begin with those that the other nodes have told of."""
        self._by_connection = {
            connection: _Guest(node, shown, member_of(shown))
            for node, members in presence.nodes.items()
            for connection, shown in members.members.items()
        }
        self._missing = frozenset()
        self.is_known = True

    def forget(self) -> None:
        """Forget all, as this node is not the owner any more."""
        self._by_connection = {}
        self.is_known = False

    def add(self, node: str, shown: Shown) -> None:
        """Add one that has joined, if it is not there."""
        known = self._by_connection.get(shown.connection)
        if known is None or known.shown != shown:
            self._by_connection[shown.connection] = _Guest(node, shown, member_of(shown))

    def discard(self, connection: str) -> None:
        """Remove one, if it is there."""
        self._by_connection.pop(connection, None)

    def note_sent_back(self, node: str, generation: int) -> None:
        """Note that a request was sent back."""
        self._sent_back[node] = max(generation, self._sent_back.get(node, 0))

    def must_send_back(self, node: str, generation: int) -> bool:
        """Whether an earlier request of the same generation was sent back."""
        return generation <= self._sent_back.get(node, 0)

    def nodes_of(self, say: PrivateSay) -> set[str]:
        """Return the nodes that have members who get a message."""
        return {
            guest.node
            for connection, guest in self._by_connection.items()
            if say.is_for(guest.member.user_id, connection)
        }

    def take_lost(self, presence: RemotePresence) -> Sequence[Shown]:
        """Remove those that two checks in a row have not found; returns them."""
        present = {connection for members in presence.nodes.values() for connection in members.members}
        missing = self._by_connection.keys() - present
        lost = missing & self._missing
        self._missing = frozenset(missing - lost)
        return [self._by_connection.pop(connection).shown for connection in sorted(lost)]
