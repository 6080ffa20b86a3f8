"""Which clock decides what, and what a step or a sleep does to it.

There are three. The *wall clock* (Unix time) is set: it can step by any amount, in either direction. The *monotonic
clock* is never set, but on most systems it stands still while the machine sleeps. The *boot clock* is never set
either and counts sleep: `CLOCK_BOOTTIME` on Linux, `CLOCK_MONOTONIC` on macOS; where neither is, it is the monotonic
one. A machine that is paused from outside (a snapshot of a virtual machine) sleeps without its boot clock knowing:
what then follows is as for the monotonic clock.

Boot clock: how long ago something was, where somebody else's clock goes on meanwhile.

| what | a step of the wall clock | a sleep of the machine |
| --- | --- | --- |
| server: age of events, windows of ids, rooms forgotten (memory, SQLite; `broker.engine.age_clock`) | nothing; logged | counts |
| the same in Redis (`broker.engine.redis.node_clock`) | nothing, unless it brings a node to Redis' time; logged | counts |
| Python client: whether the server still knows an id, waits for a server that refuses, silence | nothing | counts |
| `Publisher`: when it gives up sending again with the same key | nothing | counts |
| `greenroom top`: rates; `/api/node`: `up_ms` | nothing | counts |
| browser client: whether the server still knows an id, silence | forward: counts as sleep; back: nothing | counts |

Monotonic clock: waits, rates and time limits of this process, in which nobody loses anything when it sleeps.

| what | a step | a sleep |
| --- | --- | --- |
| server: time limits, pings and pongs, rate limits, leases it renews, drain, idle rooms, restarts | nothing | stands still: nobody is cut off for a sleep of the server's |
| server: rates and times of metrics and console, when garbage is collected | nothing | not counted |
| clients: delays before they connect again, `reconnect` | nothing | the rest of the delay is waited for afterwards |

Wall clock: what is said to somebody else, or was said by somebody else.

| what | a step | a sleep |
| --- | --- | --- |
| `time` of events (memory, SQLite), `time_ms`, `started_ms`, log lines | is told as it is | is told as it is |
| `exp` and `nbf` of tokens | forward: tokens run out early, clients ask for new ones; back: late | counts |
| tokens that are made: `greenroom token`, the commands, `--dev` | are made for the time told | - |
| `Retry-After` as a date | nothing where the answer has a `Date`: the difference of the two counts | - |
| Redis' own clock: expiry of keys, leases of nodes | forward: keys go early, by Redis' own rules, and users of other nodes leave and come back; back: dead nodes are buried late | - |
"""

import sys
import time
from collections.abc import Callable
from typing import TypeAlias

import attrs

Clock: TypeAlias = Callable[[], float]
"""Gives seconds since some moment."""

SLEEP_SECONDS = 0.5
"""A difference between two clocks that are not read at the same moment is no sleep unless it is larger."""


def _boot_clock_id() -> int | None:
    if sys.platform == "darwin":
        return time.CLOCK_MONOTONIC
    return getattr(time, "CLOCK_BOOTTIME", None)


_BOOT_CLOCK_ID = _boot_clock_id()


def boot_clock() -> float:
    """Return seconds since some moment before, those included in which the machine slept, where it can tell."""
    return time.monotonic() if _BOOT_CLOCK_ID is None else time.clock_gettime(_BOOT_CLOCK_ID)


@attrs.define
class SleepAwareClock:
    """A monotonic clock to which the time is added that the machine has slept since the first call.

    It never goes back. Compare its times with each other only. With trio's time as the monotonic clock, a test decides
    what time it is.
    """

    _monotonic: Clock
    _boot: Clock = boot_clock
    _still: Clock = time.perf_counter
    """The clock that stands still in sleep; beside `boot`, it tells how long that was."""
    _ahead: float | None = None
    _slept: float = 0.0

    def __call__(self) -> float:
        """Return the seconds."""
        # In this order a turn of another process between the two reads makes it smaller, and is no sleep.
        ahead = self._boot() - self._still()
        if self._ahead is None:
            self._ahead = ahead
        elif ahead - self._ahead >= SLEEP_SECONDS:
            self._slept += ahead - self._ahead
            self._ahead = ahead
        return self._monotonic() + self._slept
