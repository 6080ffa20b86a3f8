"""The members of a room on this node and on the others, and the notices that members here get about them."""

from collections import Counter
from collections.abc import Sequence

import attrs

from broker.engine.presence import PresenceBus, RemoteChange
from broker.notices import Notice
from broker.rooms.presence.batch import PresenceBatch
from broker.rooms.presence.remote_members import MemberChange, RemoteMembers
from broker.rooms.presence.roster import Roster


@attrs.define
class RoomPresence:
    """The roster of this node, announced to the other nodes, and the members on those.

    Methods that return notices leave it to the caller to send them to all members here.
    """

    room: str
    roster: Roster
    batch: PresenceBatch
    bus: PresenceBus | None = None
    """Exchanges presence with other nodes; None for an engine of one node."""
    remote: RemoteMembers = attrs.Factory(RemoteMembers)

    @property
    def size(self) -> int:
        """Users' connections in the room on all nodes: the `room_size` that clients see."""
        return self.roster.size + self.remote.size

    def users(self) -> tuple[tuple[str, int], ...]:
        """Return each user with the number of its connections."""
        if not self.remote.size:
            return self.roster.users()
        users = Counter(dict(self.roster.users()))
        users.update(self.remote.users())
        return tuple(users.items())

    def note_joined(self, user_id: str) -> list[Notice]:
        """Note that a connection of a user was added to the roster."""
        self._announce(user_id)
        return self.batch.joined(user_id, self.size)

    def note_left(self, user_id: str) -> list[Notice]:
        """Note that a connection of a user was removed from the roster."""
        self._announce(user_id)
        return self.batch.left(user_id, self.size)

    def take_batch(self) -> list[Notice]:
        """Empty the batch of joins and leaves into notices."""
        return self.batch.take(self.size)

    def apply(self, change: RemoteChange) -> list[Notice] | None:
        """Apply a change of another node; None if a change before it was missed."""
        changes = self.remote.apply(change)
        return None if changes is None else self._notices_of(changes)

    async def read_remote_members(self) -> tuple[list[Notice], bool]:
        """Read the members on the other nodes; also returns whether to read again after one lease.

        :raises EngineUnavailableError: if they cannot be read.
        """
        if self.bus is None:
            return [], False
        changes, must_read_again = self.remote.replace(await self.bus.read_remote_presence(self.room))
        return self._notices_of(changes), must_read_again

    async def remove_elsewhere(self, user_id: str, *, has_members: bool) -> int:
        """Have the other nodes remove a user; returns its number of connections there.

        `has_members`: whether this node has members in the room, and so listens to the others.

        :raises EngineUnavailableError: if the request has not reached all of them.
        """
        if self.bus is None:
            return 0
        if not has_members:
            await self.load_remote_members()
        count = self.remote.users().get(user_id, 0)
        await self.bus.remove(self.room, user_id, listeners=len(self.remote.nodes) + has_members)
        return count

    async def load_remote_members(self) -> None:
        """Read the members on the other nodes anew, without notices: there are no members here to receive any.

        :raises EngineUnavailableError: if they cannot be read.
        """
        self.remote = RemoteMembers()
        if self.bus is not None:
            self.remote.replace(await self.bus.read_remote_presence(self.room))

    def forget_remote_members(self) -> None:
        """Forget the members on the other nodes, as their changes will not come in any more."""
        self.remote = RemoteMembers()

    def _announce(self, user_id: str) -> None:
        if self.bus is not None:
            self.bus.set_count(self.room, user_id, self.roster.connections_of(user_id))

    def _notices_of(self, changes: Sequence[MemberChange]) -> list[Notice]:
        notices: list[Notice] = []
        for change in changes:
            note = self.batch.joined if change.is_join else self.batch.left
            notices += note(change.user_id, self.roster.size + change.size)
        return notices
