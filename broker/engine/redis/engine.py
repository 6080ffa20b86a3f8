"""The engine of several nodes: rooms spread over Redis servers."""

import secrets
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from random import Random

import attrs
import trio

from broker.clocks import trio_clock
from broker.engine.attendance import QueuesAtPlaces
from broker.engine.base import (
    Engine,
    EngineHealth,
    EngineMeter,
    EngineStatistics,
    Receipt,
    Retention,
    Run,
    is_kept,
    measured,
)
from broker.engine.feed import Feed, FeedListener
from broker.engine.outbox import Queue
from broker.engine.presence import PresenceBus
from broker.engine.redis.append_arguments import AppendArguments
from broker.engine.redis.append_head import UNTOUCHED_MS, AppendHead
from broker.engine.redis.client.link import Link
from broker.engine.redis.cluster import RedisCluster
from broker.engine.redis.keyspace import Keyspace, RoomKeys
from broker.engine.redis.node_clock import NodeClock
from broker.engine.redis.outbox import RedisOutbox
from broker.engine.redis.packed_queues import message_packer
from broker.engine.redis.peers import RedisPeers
from broker.engine.redis.presence.attendance import RedisAttendance
from broker.engine.redis.presence.bus import RedisPresence
from broker.engine.redis.replies import (
    is_published,
    is_remote_change,
    is_removal,
    parse_count,
    parse_position,
    parse_published,
    parse_receipts,
    parse_remote_change,
    parse_removal,
    parse_run,
)
from broker.engine.redis.revocations import RedisRevocations
from broker.engine.redis.ring import Ring
from broker.engine.redis.room_store import RedisRoomStore
from broker.engine.redis.scripts import Scripts
from broker.engine.redis.server import RedisServer
from broker.errors import EngineUnavailableError
from broker.log import Log
from broker.model import Draft, Position

MOST_PLACES = 16_384
"""Rooms of which the server and the keys are kept in memory."""


class RedisEngine(Engine, Feed):
    """Spreads rooms over servers by their names; made by `open_redis`."""

    def __init__(
        self,
        servers: Sequence[RedisServer],
        scripts: Scripts,
        keyspace: Keyspace,
        *,
        node: str,
        lease_seconds: float,
        clock: NodeClock,
        idempotency_seconds: float,
        log: Log,
        queues: Sequence[Queue] = (),
        make_epoch: Callable[[], str] | None = None,
    ) -> None:
        self._servers = servers
        self._ring = Ring([server.name for server in servers])
        self._scripts = scripts
        self._keyspace = keyspace
        self._node = node
        self._presence = RedisPresence(
            servers, self._ring, scripts, keyspace, node=node, lease_seconds=lease_seconds
        )
        nodes_server = servers[self._ring.index_of("")]
        self._cluster = RedisCluster(nodes_server, keyspace, node=node, log=log)
        self._revocations = RedisRevocations(nodes_server, scripts.revoke, keyspace)
        self._clock = clock
        self._trio_clock = trio_clock()
        self._outbox = RedisOutbox(queues, servers, scripts, keyspace, clock.now_ms) if queues else None
        at_places = QueuesAtPlaces(queues)
        writers = [server.attendance for server in servers if server.attendance is not None]
        self._attendance = RedisAttendance(writers, self._ring.index_of, at_places) if writers else None
        queues_of = message_packer(queues, keyspace)
        self._append = scripts.append if queues_of is None else scripts.append_and_tell
        self._make_epoch = make_epoch or _epochs()
        self._append_head = AppendHead(
            self._make_epoch, int(idempotency_seconds * 1000), queues_of or _nobody
        )
        # These take as long to find as the rest of a command.
        self._place = lru_cache(MOST_PLACES)(self._find_place)
        self._appends_to = lru_cache(MOST_PLACES)(self._find_appends_to)
        self._peers = RedisPeers(servers, self._place, keyspace, node=node)
        self._commits = 0
        self._messages = 0
        self._meter = EngineMeter([server.link.batches for server in servers])
        self._room_store = RedisRoomStore(
            *(servers, self._place, scripts, keyspace, self._append_head),
            node=node,
            lease_seconds=lease_seconds,
            now_ms=clock.now_ms,
            has_queues=queues_of is not None,
            count=self._count,
        )

    @property
    def feed(self) -> Feed:
        """See Engine: this engine itself."""
        return self

    @property
    def presence(self) -> PresenceBus:
        """See Engine."""
        return self._presence

    @property
    def peers(self) -> RedisPeers:
        """See Engine."""
        return self._peers

    @property
    def cluster(self) -> RedisCluster:
        """See Engine."""
        return self._cluster

    @property
    def revocations(self) -> RedisRevocations:
        """See Engine."""
        return self._revocations

    @property
    def outbox(self) -> RedisOutbox | None:
        """See Engine."""
        return self._outbox

    @property
    def attendance(self) -> RedisAttendance | None:
        """See Engine."""
        return self._attendance

    @property
    def room_store(self) -> RedisRoomStore:
        """See Engine."""
        return self._room_store

    async def position(self, room: str) -> Position:
        """See Engine."""
        _, keys = self._place(room)
        with measured(self._meter.position):
            return await self._scripts.position.run(
                self._server(room).link,
                (keys.meta, keys.stream),
                *(self._make_epoch(), UNTOUCHED_MS),
                parse=parse_position,
            )

    async def append(self, room: str, drafts: Sequence[Draft], retention: Retention) -> Sequence[Receipt]:
        """See Engine. If cancelled or unavailable, all the drafts may be stored all the same, or none of them."""
        link, packer = self._appends_to(room, retention)
        now_ms = self._clock.now_ms()
        with measured(self._meter.append):
            receipts = await self._append.run_packed(
                link,
                packer.pack(self._make_epoch(), now_ms, drafts),
                parse=partial(parse_receipts, drafts=drafts, now_ms=now_ms),
            )
        self._count(drafts)
        return receipts

    def append_soon(
        self,
        room: str,
        draft: Draft,
        retention: Retention,
        on_done: Callable[[Receipt | EngineUnavailableError], None],
    ) -> bool:
        """See Engine."""
        drafts = (draft,)
        link, packer = self._appends_to(room, retention)
        now_ms, began = self._clock.now_ms(), self._trio_clock()

        def done(result: Sequence[Receipt] | EngineUnavailableError) -> None:
            if isinstance(result, EngineUnavailableError):
                on_done(result)
                return
            self._meter.append.note(self._trio_clock() - began)
            self._count(drafts)
            on_done(result[0])

        return self._append.run_soon(
            link,
            packer.pack(self._make_epoch(), now_ms, drafts),
            parse=partial(parse_receipts, drafts=drafts, now_ms=now_ms),
            on_done=done,
        )

    def _find_appends_to(self, room: str, retention: Retention) -> tuple[Link, AppendArguments]:
        server, keys = self._place(room)
        return server.link, self._append_head.pack(room, keys, retention)

    def _count(self, drafts: Sequence[Draft]) -> None:
        kept = sum([is_kept(draft) for draft in drafts])
        self._commits += kept > 0
        self._messages += kept

    async def read(
        self, room: str, *, after: int = 0, limit: int | None = None, reverse: bool = False
    ) -> Run:
        """See Engine."""
        _, keys = self._place(room)
        with measured(self._meter.read):
            return await self._scripts.read.run(
                self._server(room).link,
                (keys.meta, keys.stream),
                *(self._make_epoch(), UNTOUCHED_MS, self._clock.now_ms()),
                *(after, -1 if limit is None else limit, int(reverse)),
                parse=parse_run,
            )

    async def clear(self, room: str) -> int:
        """See Engine."""
        _, keys = self._place(room)
        with measured(self._meter.clear):
            return await self._scripts.clear.run(
                self._server(room).link, (keys.meta, keys.stream), parse=parse_count
            )

    async def subscribe(self, room: str, listener: FeedListener) -> None:
        """See Feed."""
        server = self._server(room)
        channel = self._place(room)[1].channel
        await server.subscriptions.subscribe(channel, _RoomListener(listener, self._node))
        server.node_watch.listeners[room] = listener

    def unsubscribe(self, room: str) -> None:
        """See Feed."""
        server = self._server(room)
        server.node_watch.listeners.pop(room, None)
        server.subscriptions.unsubscribe(self._place(room)[1].channel)

    async def wait_ready(self) -> None:
        """See Engine: whether every server takes writes and delivers publications."""
        for server in self._servers:
            if server.health.trouble() is None:
                await server.heartbeat.wait_first()
        await trio.lowlevel.checkpoint()
        troubles = [trouble for server in self._servers if (trouble := server.health.trouble()) is not None]
        if troubles:
            raise EngineUnavailableError(
                "; ".join(map(str, troubles)), trouble=troubles[0].trouble, since=troubles[0].since
            )

    def health(self) -> EngineHealth:
        """See Engine."""
        servers_up = tuple(server.health.trouble() is None for server in self._servers)
        return EngineHealth(all(servers_up), servers_up)

    @property
    def meter(self) -> EngineMeter:
        """See Engine."""
        return self._meter

    def statistics(self) -> EngineStatistics:
        """Return a snapshot."""
        waiting = sum(server.link.statistics().pending for server in self._servers)
        return EngineStatistics(self._commits, self._messages, waiting)

    def _server(self, room: str) -> RedisServer:
        return self._place(room)[0]

    def _find_place(self, room: str) -> tuple[RedisServer, RoomKeys]:
        return self._servers[self._ring.index_of(room)], self._keyspace.room(room)


def _nobody(_room: str) -> bytes:
    """Return the queues that get a room's messages, where none gets any."""
    return b""


def _epochs() -> Callable[[], str]:
    """Return what makes epochs. Each append brings one along, for a new room: the operating system is asked only once."""
    random = Random(secrets.randbits(256))  # noqa: S311  # nobody has to be kept from guessing them
    return lambda: f"{random.getrandbits(64):016x}"


@attrs.frozen
class _RoomListener:
    """Parses the messages of a room's channel for the room's listener."""

    listener: FeedListener
    node: str

    def arrived(self, payload: bytes) -> None:
        """See Listener."""
        try:
            if is_published(payload):
                self.listener.arrived(*parse_published(payload))
            elif is_remote_change(payload):
                change = parse_remote_change(payload)
                if change.node != self.node:
                    self.listener.remote_changed(change)
            elif is_removal(payload):
                node, user_id = parse_removal(payload)
                if node != self.node:
                    self.listener.user_removed(user_id)
            else:
                # An append of an earlier or later version.
                self.listener.arrived(*parse_published(payload))
        except ValueError:
            # Published by another program, or content that is not UTF-8: the room reads what was stored.
            self.listener.fell_behind()

    def fell_behind(self) -> None:
        """See Listener."""
        self.listener.fell_behind()
