"""The time that a node writes to Redis, by which all nodes count ages and windows.

Other nodes read what one node writes, so their clocks must agree; events carry the same time. A node's clock starts
as its wall clock, follows its boot clock, and ignores steps of the wall clock. It is set only when two of three
clocks agree: where it differs from Redis' clock and the wall clock does not, it is set to the wall clock. So a
machine that booted with a wrong time, or was paused from outside, is corrected, and a wall clock set wrong has no
effect. Redis' own clock decides no age: it only expires keys, a minute after they are of no use.
"""

from broker.clocks import Clock
from broker.log import Log
from broker.model import WallClock

AGREE_SECONDS = 5.0
"""Largest difference between clocks that agree: answers take time, and this process may be held up."""


class NodeClock:
    """The clock of one node. Without a boot clock, as in a test with a single clock, it is the wall clock."""

    def __init__(self, wall_clock: WallClock, log: Log, *, boot_clock: Clock | None = None) -> None:
        self._wall_clock = wall_clock
        self._boot_clock = boot_clock or wall_clock
        self._ahead_of_boot = wall_clock() - self._boot_clock()
        self._log = log
        self._differing_servers: set[str] = set()

    def now(self) -> float:
        """Return Unix seconds."""
        return self._boot_clock() + self._ahead_of_boot

    def now_ms(self) -> int:
        """Return Unix milliseconds."""
        return int(self.now() * 1000)

    def compare(self, server: str, server_now: float, *, asked_at: float) -> None:
        """Compare with the Unix seconds that a server answered to a request made when this clock showed `asked_at`."""
        now, wall_now = self.now(), self._wall_clock()
        if asked_at - AGREE_SECONDS <= server_now <= now + AGREE_SECONDS:
            self._differing_servers.discard(server)
            return
        # The round trip is measured by the boot clock, whatever the others show.
        took_seconds = now - asked_at
        if wall_now - took_seconds - AGREE_SECONDS <= server_now <= wall_now + AGREE_SECONDS:
            self._ahead_of_boot += wall_now - now
            self._log.warning(
                "clock was set to the wall clock, as Redis has it", step_seconds=round(wall_now - now, 3)
            )
        elif server not in self._differing_servers:
            self._differing_servers.add(server)
            self._log.warning("clock differs from Redis'", server=server, seconds=round(now - server_now, 3))
