"""The time that a node writes to Redis, by which all nodes count ages and windows.

What one node writes the others read, so their clocks must agree; and what is told as the time of an event is the same
number. A node's clock begins as its wall clock, follows its boot clock, and is moved by no step. Only when two of
three agree it is set: where it differs from Redis' clock and the wall clock does not, it is set to the wall clock. So
a machine that came up with a wrong time, or was paused from outside, is put right, and one whose wall clock is set
wrong is not led astray. Redis' own clock decides no age: by it keys expire, a minute after they are of no use.
"""

from broker.clocks import Clock
from broker.log import Log
from broker.model import WallClock

AGREE_SECONDS = 5.0
"""Clocks that differ by no more agree: answers take time, and whoever measures may be held up."""


class NodeClock:
    """The clock of one node; without a boot clock, as in a test with a single clock, its wall clock."""

    def __init__(self, wall_clock: WallClock, log: Log, *, boot_clock: Clock | None = None) -> None:
        self._wall_clock = wall_clock
        self._boot_clock = boot_clock or wall_clock
        self._ahead_of_boot = wall_clock() - self._boot_clock()
        self._log = log
        self._strangers: set[str] = set()

    def now(self) -> float:
        """Return Unix seconds."""
        return self._boot_clock() + self._ahead_of_boot

    def now_ms(self) -> int:
        """Return Unix milliseconds."""
        return int(self.now() * 1000)

    def compare(self, server: str, server_now: float, *, asked_at: float) -> None:
        """Take what a server answers to what was asked when this clock showed `asked_at`: its Unix seconds."""
        now, wall_now = self.now(), self._wall_clock()
        if asked_at - AGREE_SECONDS <= server_now <= now + AGREE_SECONDS:
            self._strangers.discard(server)
            return
        # How long the answer was under way is measured by the boot clock, whatever the others show.
        took_seconds = now - asked_at
        if wall_now - took_seconds - AGREE_SECONDS <= server_now <= wall_now + AGREE_SECONDS:
            self._ahead_of_boot += wall_now - now
            self._log.warning(
                "clock was set to the wall clock, as Redis has it", step_seconds=round(wall_now - now, 3)
            )
        elif server not in self._strangers:
            self._strangers.add(server)
            self._log.warning("clock differs from Redis'", server=server, seconds=round(now - server_now, 3))
