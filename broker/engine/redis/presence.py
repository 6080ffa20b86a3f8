"""Who is in rooms on other nodes, as they tell it through the servers."""

from collections.abc import Callable, Sequence
from functools import partial
from heapq import merge
from itertools import islice
from operator import attrgetter

import trio

from broker.engine.presence import Presence, RemotePresence, RoomGlance
from broker.engine.redis.keys import Names
from broker.engine.redis.replies import (
    pack_removal,
    parse_count,
    parse_glance,
    parse_heard,
    parse_names,
    parse_remote_presence,
    parse_removal,
)
from broker.engine.redis.ring import Ring
from broker.engine.redis.scripts import Scripts
from broker.engine.redis.server import Server
from broker.errors import EngineTrouble, EngineUnavailableError


class RedisPresence(Presence):
    """See Presence. It is also the listener on the channel that all nodes hear, on one of the servers."""

    def __init__(
        self,
        servers: Sequence[Server],
        ring: Ring,
        scripts: Scripts,
        names: Names,
        *,
        node: str,
        lease_seconds: float,
    ) -> None:
        self._servers = servers
        self._ring = ring
        self._scripts = scripts
        self._names = names
        self._node = node
        self._lease_seconds = lease_seconds
        self._lease_ms = int(lease_seconds * 1000)
        self._close_user: Callable[[str], None] = lambda _user_id: None
        self._meeting_place().feed.listen(names.all_nodes, self)

    @property
    def lease_seconds(self) -> float:
        """See Presence."""
        return self._lease_seconds

    def set_count(self, room: str, user_id: str, connections: int) -> None:
        """See Presence."""
        self._server(room).board.set_count(room, user_id, connections)

    def clear(self, room: str) -> None:
        """See Presence."""
        self._server(room).board.clear(room)

    async def read_remote_presence(self, room: str) -> RemotePresence:
        """See Presence."""
        names = self._names.room(room)
        return await self._scripts.snapshot.run(
            self._server(room).link,
            (names.nodes, self._names.alive, self._names.board, self._names.rooms),
            *(names.users, self._lease_ms, names.channel, room),
            parse=lambda reply: parse_remote_presence(reply, self._node),
        )

    async def remove(self, room: str, user_id: str, *, listeners: int) -> None:
        """See Presence."""
        channel = self._names.room(room).channel
        removal = pack_removal(self._node, user_id)
        heard = await self._server(room).link.ask("PUBLISH", channel, removal, parse=parse_count)
        if heard < listeners:
            raise _not_heard("a node with users in the room cannot hear just now")

    async def list_rooms(self, *, prefix: str, after: str, limit: int) -> list[RoomGlance]:
        """See Presence."""
        found = [await self._list_rooms(server, prefix, after, limit) for server in self._servers]
        return list(islice(merge(*found, key=attrgetter("room")), limit))

    def on_close_user(self, close: Callable[[str], None]) -> None:
        """See Presence."""
        self._close_user = close

    async def close_user(self, user_id: str) -> None:
        """See Presence."""
        heard, alive = await self._scripts.close.run(
            self._meeting_place().link,
            (self._names.alive,),
            *(self._lease_ms, self._names.all_nodes, pack_removal(self._node, user_id)),
            parse=parse_heard,
        )
        if heard < alive:
            raise _not_heard("a node cannot hear just now")

    def arrived(self, payload: bytes) -> None:
        """Take what a node has told all nodes."""
        try:
            node, user_id = parse_removal(payload)
        except ValueError:
            return  # published by another program
        if node != self._node:
            self._close_user(user_id)

    def fell_behind(self) -> None:
        """Hear that the subscription is new; whoever asked while there was none was told so."""

    async def _list_rooms(self, server: Server, prefix: str, after: str, limit: int) -> list[RoomGlance]:
        glances: list[RoomGlance] = []
        first = f"({after}" if after >= prefix else f"[{prefix}"
        # No UTF-8 has the byte 255, so all that begins with the prefix comes before.
        last = b"(" + prefix.encode() + b"\xff"
        while len(glances) < limit:
            asked = limit - len(glances)
            rooms = await server.link.ask(
                *("ZRANGEBYLEX", self._names.rooms, first, last, "LIMIT", 0, asked),
                parse=partial(parse_names, after=first[1:] if first[0] == "(" else None),
            )
            glances += [glance for glance in await self._glance_all(server, rooms) if glance is not None]
            if len(rooms) < asked:
                break
            first = f"({rooms[-1]}"
        return glances

    async def _glance_all(self, server: Server, rooms: Sequence[str]) -> list[RoomGlance | None]:
        """Ask of all rooms at once, which is one write."""
        found: dict[str, RoomGlance | None] = {}

        async def glance(room: str) -> None:
            names = self._names.room(room)
            keys = (names.meta, names.nodes, self._names.alive, self._names.rooms)
            try:
                found[room] = await self._scripts.glance.run(
                    server.link, keys, room, self._lease_ms, parse=partial(parse_glance, room)
                )
            except EngineUnavailableError as error:
                failures.append(error)

        failures: list[EngineUnavailableError] = []
        async with trio.open_nursery() as nursery:
            for room in rooms:
                nursery.start_soon(glance, room)
        if failures:
            raise failures[0]
        return [found[room] for room in rooms]

    def _server(self, room: str) -> Server:
        return self._servers[self._ring.index_of(room)]

    def _meeting_place(self) -> Server:
        return self._servers[self._ring.index_of("")]


def _not_heard(detail: str) -> EngineUnavailableError:
    return EngineUnavailableError(detail, trouble=EngineTrouble.NODE_NOT_REACHED)
