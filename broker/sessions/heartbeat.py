"""The heartbeat of all connections: one task checks for pings to send, missing pongs and expired tokens."""

import trio

from broker.model import WallClock
from broker.sessions.connections import Connections


async def run_heartbeat(connections: Connections, wall_clock: WallClock, *, interval_seconds: float) -> None:
    """Check every connection at each interval, for ever; one timer for all costs less than one for each."""
    while True:
        await trio.sleep(interval_seconds)
        now, wall_now = trio.current_time(), wall_clock()
        for connection in connections:
            connection.check(now, wall_now)
