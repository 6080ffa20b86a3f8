"""The members of a room on this node and on the others, and the notices that members here get about them."""

from collections import Counter
from collections.abc import Sequence

import attrs

from broker.engine.presence import Presence, RemoteChange
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
    presence: Presence | None = None
    remote: RemoteMembers = attrs.Factory(RemoteMembers)

    @property
    def size(self) -> int:
        """How many users' connections are in the room on all nodes; this is what users are told."""
        return self.roster.size + self.remote.size

    def users(self) -> tuple[tuple[str, int], ...]:
        """Return each user with the number of its connections."""
        if not self.remote.size:
            return self.roster.users()
        users = Counter(dict(self.roster.users()))
        users.update(self.remote.users())
        return tuple(users.items())

    def came(self, user_id: str) -> list[Notice]:
        """Note that a connection of a user was added to the roster."""
        self._announce(user_id)
        return self.batch.joined(user_id, self.size)

    def went(self, user_id: str) -> list[Notice]:
        """Note that a connection of a user was taken from the roster."""
        self._announce(user_id)
        return self.batch.left(user_id, self.size)

    def gathered(self) -> list[Notice]:
        """Return what was gathered since the last time."""
        return self.batch.take(self.size)

    def apply(self, change: RemoteChange) -> list[Notice] | None:
        """Take what another node has told; None if something was missed."""
        changes = self.remote.apply(change)
        return None if changes is None else self._tell(changes)

    async def read_remote_members(self) -> tuple[list[Notice], bool]:
        """Read who is on the other nodes; also returns whether to do so again after a lease.

        :raises EngineUnavailableError: if it cannot be read.
        """
        if self.presence is None:
            return [], False
        changes, is_anew = self.remote.replace(await self.presence.read_remote_presence(self.room))
        return self._tell(changes), is_anew

    async def remove_elsewhere(self, user_id: str, *, is_here: bool) -> int:
        """Have the other nodes remove a user; returns how many connections that are. `is_here`: someone is.

        :raises EngineUnavailableError: if not all of them have heard it.
        """
        if self.presence is None:
            return 0
        if not is_here:
            await self.begin()
        count = self.remote.users().get(user_id, 0)
        await self.presence.remove(self.room, user_id, listeners=len(self.remote.nodes) + is_here)
        return count

    async def begin(self) -> None:
        """Read who is on the other nodes when there is nobody here to be told.

        :raises EngineUnavailableError: if it cannot be read.
        """
        self.remote = RemoteMembers()
        if self.presence is not None:
            self.remote.replace(await self.presence.read_remote_presence(self.room))

    def end(self) -> None:
        """Forget who is on the other nodes: they will not be heard of."""
        self.remote = RemoteMembers()

    def _announce(self, user_id: str) -> None:
        if self.presence is not None:
            self.presence.set_count(self.room, user_id, self.roster.connections_of(user_id))

    def _tell(self, changes: Sequence[MemberChange]) -> list[Notice]:
        notices: list[Notice] = []
        for change in changes:
            tell = self.batch.joined if change.is_coming else self.batch.left
            notices += tell(change.user_id, self.roster.size + change.size)
        return notices
