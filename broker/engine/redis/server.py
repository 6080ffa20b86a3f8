"""One Redis server of the engine, with the tasks that keep it in use."""

import attrs
import trio

from broker.engine.redis.client.health import Health
from broker.engine.redis.client.link import Link
from broker.engine.redis.client.subscriptions import Subscriptions
from broker.engine.redis.presence.announcer import PresenceAnnouncer
from broker.engine.redis.presence.attendance import AttendanceWriter
from broker.engine.redis.presence.heartbeat import Heartbeat
from broker.engine.redis.presence.node_watch import NodeWatch


@attrs.frozen
class RedisServer:
    """The parts that belong to one server."""

    name: str
    link: Link
    subscriptions: Subscriptions
    announcer: PresenceAnnouncer
    node_watch: NodeWatch
    heartbeat: Heartbeat
    health: Health
    attendance: AttendanceWriter | None = None
    """None if no queue of the outbox wants to know who is present."""

    async def run(self) -> None:
        """Run all parts until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.link.run)
            nursery.start_soon(self.subscriptions.run)
            nursery.start_soon(self.announcer.run)
            nursery.start_soon(self.heartbeat.run)
            if self.attendance is not None:
                nursery.start_soon(self.attendance.run)

    async def wait_announced(self) -> None:
        """Wait until the other nodes, and the book of who is present, know the users of this node."""
        await self.announcer.wait_announced()
        if self.attendance is not None:
            await self.attendance.wait_written()
