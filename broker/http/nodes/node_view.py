"""The state of this node, gathered on request."""

import heapq
from typing import Any

import attrs
import trio

from broker.http.nodes.busiest import Sample, Top, messages_per_second
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

COUNTED_PER_TURN = 500
"""A checkpoint follows this many rooms or connections: about a millisecond."""

TOP_SLOW_READERS = 20

ENGINE_SECONDS = 0.5
"""Time limit for the engine's answer whether it is ready. A console asks again each second."""


@attrs.frozen
class NodeView:
    """SampleWindow at this node."""

    services: HttpServices

    async def obstacles(self) -> list[str]:
        """Return why it is not ready."""
        services = self.services
        return await find_obstacles(
            services.engine, is_draining=services.is_draining(), patience_seconds=ENGINE_SECONDS
        )

    def summary(self, reasons: list[str]) -> NodeSummary:
        """Return its line in the list of all nodes, in constant time."""
        services = self.services
        rooms = services.rooms.statistics()
        last = services.traffic.last
        return NodeSummary(
            **self._facts(reasons),
            rooms=rooms.rooms,
            members=rooms.members,
            publishes_per_second=0.0 if last is None else last.publishes_per_second,
            deliveries_per_second=0.0 if last is None else last.deliveries_per_second,
            cpu=0.0 if last is None else last.cpu,
            p99_ms=services.traffic.minute_p99_ms,
        )

    async def state(self, query: NodeQuery, traffic: list[TrafficPoint], reasons: list[str]) -> NodeState:
        """Return its whole state, with these points of its traffic."""
        services = self.services
        tally = services.rooms.tally
        return NodeState(
            **self._facts(reasons),
            time_ms=int(services.wall_clock() * 1000),
            reasons=reasons,
            makes_tokens=services.makes_tokens,
            engine=self._engine(),
            deliveries=tally.deliveries,
            deliveries_lost=tally.deliveries_lost,
            rooms=await self._rooms(query),
            slow_readers=await self._slow_readers(),
            traffic=traffic,
        )

    def _facts(self, reasons: list[str]) -> dict[str, Any]:
        """Return the fields of `NodeFacts`."""
        services, node = self.services, self.services.node
        return {
            "name": node.name,
            "machine": node.machine,
            "worker": node.worker,
            "version": node.version,
            "started_ms": node.started_ms,
            "up_ms": node.up_ms(),
            "is_ready": not reasons,
            "is_draining": services.is_draining(),
            "connections": services.connections.of_users,
        }

    def _engine(self) -> EngineState:
        scheme = self.services.settings.server.engine.partition("://")[0]
        statistics = attrs.asdict(self.services.engine.statistics())
        plain = {name: value for name, value in statistics.items() if isinstance(value, int | float | str)}
        return EngineState(scheme, plain)

    async def _rooms(self, query: NodeQuery) -> RoomsState:
        now = trio.current_time()
        samples = self.services.samples
        before = samples.baseline(now)
        top = Top(query.rooms, query.order)
        said: dict[str, int] = {}
        members = found = 0
        for room, size, count in self.services.rooms.loads():
            said[room] = count
            members += size
            if room.startswith(query.prefix):
                found += 1
                top.add(room, size, messages_per_second(before, now, room, count))
            if len(said) % COUNTED_PER_TURN == 0:
                await trio.lowlevel.checkpoint()
        samples.keep(Sample(now, said))
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
            if number % COUNTED_PER_TURN == 0:
                await trio.lowlevel.checkpoint()
        return SlowReaders(
            count=len(slow),
            queued_bytes=sum(reader.queued_bytes for reader in slow),
            limit_bytes=self.services.settings.websocket.outbox_bytes,
            top=heapq.nlargest(TOP_SLOW_READERS, slow, key=lambda reader: reader.queued_bytes),
        )
