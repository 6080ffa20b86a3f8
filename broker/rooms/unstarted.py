"""Looks at rooms that are not up, past their actors: to look at a room does not make one."""

import attrs

from broker.engine.base import Engine, Run
from broker.model import Position, PresenceBy
from broker.rooms.history import read_page
from broker.rooms.messages import RoomInfo
from broker.rooms.presence.batch import PresenceBatch
from broker.rooms.presence.listing import list_members
from broker.rooms.presence.room_presence import RoomPresence
from broker.rooms.presence.roster import MemberCount, Roster


@attrs.frozen
class UnstartedRooms:
    """The rooms without members on this node. Every method may raise EngineUnavailableError."""

    engine: Engine
    page_bytes: int

    async def inspect(self, room: str, by: PresenceBy) -> RoomInfo:
        """Return a room's position and its members, who are on other nodes."""
        presence = self._presence(room)
        # The engine's `position` would make the room.
        position = (await self.engine.read(room, limit=0)).position
        await presence.load_remote_members()
        listed = list_members(presence, by, self.page_bytes)
        return RoomInfo(room, presence.size, position, presence.users(), listed)

    async def read(self, room: str, since: Position | None, limit: int, *, reverse: bool) -> Run:
        """Return some of a room's events."""
        return await read_page(self.engine, room, since, limit, reverse=reverse, most_bytes=self.page_bytes)

    async def remove(self, room: str, user_id: str) -> int:
        """Have the other nodes remove a user from a room; returns the number of connections there."""
        return await self._presence(room).remove_elsewhere(user_id, has_members=False)

    def _presence(self, room: str) -> RoomPresence:
        return RoomPresence(room, Roster(MemberCount()), PresenceBatch(room, 0), self.engine.presence)
