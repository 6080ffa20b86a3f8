"""Who is in a room, here and on other nodes, and what those here are told of it."""

from collections import Counter
from collections.abc import Sequence

import attrs

from broker.engine.presence import CrowdChange, Presence
from broker.notices import Notice
from broker.rooms.crowd import Crowd, Passage
from broker.rooms.gathering import Gathering
from broker.rooms.roster import Roster


@attrs.define
class Attendance:
    """The roster of this node, told to the others, and the crowd that the others tell of.

    What its methods return is to be told to all here.
    """

    room: str
    roster: Roster
    gathering: Gathering
    presence: Presence | None = None
    crowd: Crowd = attrs.Factory(Crowd)

    @property
    def size(self) -> int:
        """How many users' connections are in the room on all nodes; this is what users are told."""
        return self.roster.size + self.crowd.size

    def users(self) -> tuple[tuple[str, int], ...]:
        """Return each user with the number of its connections."""
        if not self.crowd.size:
            return self.roster.users()
        users = Counter(dict(self.roster.users()))
        users.update(self.crowd.users())
        return tuple(users.items())

    def came(self, user_id: str) -> list[Notice]:
        """Note that a connection of a user was added to the roster."""
        self._announce(user_id)
        return self.gathering.joined(user_id, self.size)

    def went(self, user_id: str) -> list[Notice]:
        """Note that a connection of a user was taken from the roster."""
        self._announce(user_id)
        return self.gathering.left(user_id, self.size)

    def gathered(self) -> list[Notice]:
        """Return what was gathered since the last time."""
        return self.gathering.take(self.size)

    def apply(self, change: CrowdChange) -> list[Notice] | None:
        """Take what another node has told; None if something was missed."""
        passages = self.crowd.apply(change)
        return None if passages is None else self._tell(passages)

    async def read_crowd(self) -> tuple[list[Notice], bool]:
        """Read who is on the other nodes; also returns whether to do so again after a lease.

        :raises EngineUnavailableError: if it cannot be read.
        """
        if self.presence is None:
            return [], False
        passages, is_anew = self.crowd.replace(await self.presence.read_crowds(self.room))
        return self._tell(passages), is_anew

    async def remove_elsewhere(self, user_id: str, *, is_here: bool) -> int:
        """Have the other nodes remove a user; returns how many connections that are. `is_here`: someone is.

        :raises EngineUnavailableError: if not all of them have heard it.
        """
        if self.presence is None:
            return 0
        if not is_here:
            await self.begin()
        count = self.crowd.users().get(user_id, 0)
        await self.presence.remove(self.room, user_id, listeners=len(self.crowd.nodes) + is_here)
        return count

    async def begin(self) -> None:
        """Read who is on the other nodes when there is nobody here to be told.

        :raises EngineUnavailableError: if it cannot be read.
        """
        self.crowd = Crowd()
        if self.presence is not None:
            self.crowd.replace(await self.presence.read_crowds(self.room))

    def end(self) -> None:
        """Forget who is on the other nodes: they will not be heard of."""
        self.crowd = Crowd()

    def _announce(self, user_id: str) -> None:
        if self.presence is not None:
            self.presence.set_count(self.room, user_id, self.roster.connections_of(user_id))

    def _tell(self, passages: Sequence[Passage]) -> list[Notice]:
        notices: list[Notice] = []
        for passage in passages:
            tell = self.gathering.joined if passage.is_coming else self.gathering.left
            notices += tell(passage.user_id, self.roster.size + passage.size)
        return notices
