"""The presence bus over Redis: this node's members out, other nodes' members in."""

from collections.abc import Callable, Sequence
from functools import partial
from heapq import merge
from itertools import islice
from operator import attrgetter

import trio

from broker.engine.presence import PresenceBus, RemotePresence, RoomSummary
from broker.engine.redis.keyspace import Keyspace
from broker.engine.redis.replies import (
    pack_removal,
    parse_close_counts,
    parse_count,
    parse_remote_presence,
    parse_removal,
    parse_room_names,
    parse_summary,
)
from broker.engine.redis.ring import Ring
from broker.engine.redis.scripts import Scripts
from broker.engine.redis.server import RedisServer
from broker.errors import EngineTrouble, EngineUnavailableError
from broker.model import Shown


class RedisPresence(PresenceBus):
    """See PresenceBus. Also the listener on the channel of all nodes, which is on one of the servers."""

    def __init__(
        self,
        servers: Sequence[RedisServer],
        ring: Ring,
        scripts: Scripts,
        keyspace: Keyspace,
        *,
        node: str,
        lease_seconds: float,
    ) -> None:
        self._servers = servers
        self._ring = ring
        self._scripts = scripts
        self._keyspace = keyspace
        self._node = node
        self._lease_seconds = lease_seconds
        self._lease_ms = int(lease_seconds * 1000)
        self._close_user: Callable[[str], None] = lambda _user_id: None
        self._nodes_server().subscriptions.keep_subscribed(keyspace.all_nodes, self)

    @property
    def lease_seconds(self) -> float:
        """See PresenceBus."""
        return self._lease_seconds

    def set_member(self, room: str, connection: str, shown: Shown | None) -> None:
        """See PresenceBus."""
        self._server(room).announcer.set_member(room, connection, shown)

    def clear(self, room: str) -> None:
        """See PresenceBus."""
        self._server(room).announcer.clear(room)

    async def read_remote_presence(self, room: str) -> RemotePresence:
        """See PresenceBus."""
        keyspace, keys = self._keyspace, self._keyspace.room(room)
        return await self._scripts.snapshot.run(
            self._server(room).link,
            (keys.nodes, keyspace.alive, keyspace.store_id, keyspace.rooms),
            *(keys.users, keys.members, self._lease_ms, keys.channel, room),
            parse=lambda reply: parse_remote_presence(reply, self._node),
        )

    async def remove(self, room: str, user_id: str, *, listeners: int) -> None:
        """See PresenceBus."""
        channel = self._keyspace.room(room).channel
        removal = pack_removal(self._node, user_id)
        received = await self._server(room).link.request("PUBLISH", channel, removal, parse=parse_count)
        if received < listeners:
            raise _not_reached("a node with users in the room cannot hear just now")

    async def list_rooms(self, *, prefix: str, after: str, limit: int) -> list[RoomSummary]:
        """See PresenceBus."""
        found = [await self._list_rooms(server, prefix, after, limit) for server in self._servers]
        return list(islice(merge(*found, key=attrgetter("room")), limit))

    def on_close_user(self, close: Callable[[str], None]) -> None:
        """See PresenceBus."""
        self._close_user = close

    async def close_user(self, user_id: str) -> None:
        """See PresenceBus."""
        received, alive = await self._scripts.close.run(
            self._nodes_server().link,
            (self._keyspace.alive,),
            *(self._lease_ms, self._keyspace.all_nodes, pack_removal(self._node, user_id)),
            parse=parse_close_counts,
        )
        if received < alive:
            raise _not_reached("a node cannot hear just now")

    def arrived(self, payload: bytes) -> None:
        """See Listener: another node was asked to close a user's connections."""
        try:
            node, user_id = parse_removal(payload)
        except ValueError:
            return  # published by another program
        if node != self._node:
            self._close_user(user_id)

    def fell_behind(self) -> None:
        """See Listener: nothing to do, as `close_user` fails while a node is not subscribed."""

    async def _list_rooms(
        self, server: RedisServer, prefix: str, after: str, limit: int
    ) -> list[RoomSummary]:
        summaries: list[RoomSummary] = []
        first = f"({after}" if after >= prefix else f"[{prefix}"
        # No UTF-8 has the byte 255, so every name with the prefix comes before.
        last = b"(" + prefix.encode() + b"\xff"
        while len(summaries) < limit:
            missing = limit - len(summaries)
            rooms = await server.link.request(
                *("ZRANGEBYLEX", self._keyspace.rooms, first, last, "LIMIT", 0, missing),
                parse=partial(parse_room_names, after=first[1:] if first[0] == "(" else None),
            )
            summaries += [each for each in await self._summarize_all(server, rooms) if each is not None]
            if len(rooms) < missing:
                break
            first = f"({rooms[-1]}"
        return summaries

    async def _summarize_all(self, server: RedisServer, rooms: Sequence[str]) -> list[RoomSummary | None]:
        """Request the summaries of all rooms at once, which is one write."""
        found: dict[str, RoomSummary | None] = {}

        async def summarize(room: str) -> None:
            room_keys = self._keyspace.room(room)
            keys = (room_keys.meta, room_keys.nodes, self._keyspace.alive, self._keyspace.rooms)
            try:
                found[room] = await self._scripts.summary.run(
                    server.link, keys, room, self._lease_ms, parse=partial(parse_summary, room)
                )
            except EngineUnavailableError as error:
                failures.append(error)

        failures: list[EngineUnavailableError] = []
        async with trio.open_nursery() as nursery:
            for room in rooms:
                nursery.start_soon(summarize, room)
        if failures:
            raise failures[0]
        return [found[room] for room in rooms]

    def _server(self, room: str) -> RedisServer:
        return self._servers[self._ring.index_of(room)]

    def _nodes_server(self) -> RedisServer:
        """Return the server with the channel of all nodes."""
        return self._servers[self._ring.index_of("")]


def _not_reached(detail: str) -> EngineUnavailableError:
    return EngineUnavailableError(detail, trouble=EngineTrouble.NODE_NOT_REACHED)
