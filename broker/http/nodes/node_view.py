"""How this node is, gathered when somebody asks."""

import heapq

import attrs
import trio

from broker.http.nodes.busiest import Look, Top, messages_per_second
from broker.http.nodes.readiness import find_obstacles
from broker.http.nodes.states import (
    EngineState,
    NodeQuery,
    NodeState,
    NodeSummary,
    RoomActivity,
    RoomsState,
    SlowReader,
    SlowReaders,
)
from broker.http.nodes.traffic import TrafficPoint
from broker.http.services import HttpServices

LOOKED_AT_PER_TURN = 500
"""After so many rooms or connections the other tasks get their turn: a millisecond, more or less."""

TOP_SLOW_READERS = 20

ENGINE_SECONDS = 0.5
"""How long the engine may take to say that it is ready: a console asks again each second."""


@attrs.frozen
class NodeView:
    """Looks at this node."""

    services: HttpServices

    async def obstacles(self) -> list[str]:
        """Return why it is not ready."""
        services = self.services
        return await find_obstacles(
            services.engine, is_draining=services.is_draining(), patience_seconds=ENGINE_SECONDS
        )

    def summary(self, reasons: list[str]) -> NodeSummary:
        """Return its line in the list of all nodes, in a time that does not depend on how much it holds."""
        services, node = self.services, self.services.node
        rooms = services.rooms.statistics()
        last = services.traffic.last
        return NodeSummary(
            name=node.name,
            machine=node.machine,
            worker=node.worker,
            version=node.version,
            started_ms=node.started_ms,
            up_ms=node.up_ms(),
            is_ready=not reasons,
            is_draining=services.is_draining(),
            connections=len(services.connections),
            rooms=rooms.rooms,
            members=rooms.members,
            publishes_per_second=0.0 if last is None else last.publishes_per_second,
            deliveries_per_second=0.0 if last is None else last.deliveries_per_second,
            cpu=0.0 if last is None else last.cpu,
            p99_ms=None if last is None else last.p99_ms,
        )

    async def state(self, query: NodeQuery, traffic: list[TrafficPoint], reasons: list[str]) -> NodeState:
        """Return everything there is to know of it, with those points of its traffic."""
        services, node = self.services, self.services.node
        tally = services.rooms.tally
        return NodeState(
            name=node.name,
            machine=node.machine,
            worker=node.worker,
            version=node.version,
            started_ms=node.started_ms,
            up_ms=node.up_ms(),
            time_ms=int(services.wall_clock() * 1000),
            is_ready=not reasons,
            is_draining=services.is_draining(),
            reasons=reasons,
            makes_tokens=services.makes_tokens,
            engine=self._engine(),
            connections=len(services.connections),
            deliveries=tally.deliveries,
            deliveries_lost=tally.deliveries_lost,
            rooms=await self._rooms(query),
            slow_readers=await self._slow_readers(),
            traffic=traffic,
        )

    def _engine(self) -> EngineState:
        scheme = self.services.settings.server.engine.partition("://")[0]
        statistics = attrs.asdict(self.services.engine.statistics())
        plain = {name: value for name, value in statistics.items() if isinstance(value, int | float | str)}
        return EngineState(scheme, plain)

    async def _rooms(self, query: NodeQuery) -> RoomsState:
        now = trio.current_time()
        looks = self.services.looks
        before = looks.baseline(now)
        top = Top(query.rooms, query.order)
        said: dict[str, int] = {}
        members = found = 0
        for room, size, count in self.services.rooms.loads():
            said[room] = count
            members += size
            if room.startswith(query.prefix):
                found += 1
                top.add(room, size, messages_per_second(before, now, room, count))
            if len(said) % LOOKED_AT_PER_TURN == 0:
                await trio.lowlevel.checkpoint()
        looks.keep(Look(now, said))
        rooms = [
            RoomActivity(room, size, None if rate is None else round(rate, 1))
            for room, size, rate in top.rooms()
        ]
        return RoomsState(len(said), members, found, rooms)

    async def _slow_readers(self) -> SlowReaders:
        slow: list[SlowReader] = []
        for number, connection in enumerate(self.services.connections, 1):
            queued_bytes = connection.queued_bytes
            if queued_bytes:
                slow.append(SlowReader(connection.user_id, queued_bytes))
            if number % LOOKED_AT_PER_TURN == 0:
                await trio.lowlevel.checkpoint()
        return SlowReaders(
            count=len(slow),
            queued_bytes=sum(reader.queued_bytes for reader in slow),
            limit_bytes=self.services.settings.websocket.outbox_bytes,
            top=heapq.nlargest(TOP_SLOW_READERS, slow, key=lambda reader: reader.queued_bytes),
        )
