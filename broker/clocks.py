"""The three clocks of Greenroom, their uses, and the effects of a clock step and of a machine's sleep.

The *wall clock* (Unix time) can be set, and so step by any amount in either direction. The *monotonic clock* is never
set, but on most systems it stops while the machine sleeps. The *boot clock* is never set either and counts sleep:
`CLOCK_BOOTTIME` on Linux, `CLOCK_MONOTONIC` on macOS; on other systems it is the monotonic clock. The boot clock does
not count a pause from outside, such as a snapshot of a virtual machine: the effects are those of the monotonic clock.

Boot clock: ages, where the clock of another process goes on during a sleep.

| use | a step of the wall clock | a sleep of the machine |
| --- | --- | --- |
| server: age of events, windows of ids, rooms forgotten (memory, SQLite; `broker.engine.age_clock`) | none; logged | counts |
| the same in Redis (`broker.engine.redis.node_clock`) | none, unless it corrects a node to Redis' time; logged | counts |
| Python client: whether the server still knows an id, waits for a server that refuses, silence | none | counts |
| `Publisher`: the end of retries with the same key | none | counts |
| `greenroom top`: rates; `/api/node`: `up_ms` | none | counts |
| browser client: whether the server still knows an id, silence | forward: counts as sleep; back: none | counts |

Monotonic clock: waits, rates and time limits of this process, which a sleep may suspend without harm.

| use | a step | a sleep |
| --- | --- | --- |
| server: time limits, pings and pongs, rate limits, renewal of leases, drain, idle rooms, restarts | none | suspends: no client is disconnected for a sleep of the server |
| `greenroom conformance`: all times | none | not counted |
| server: rates and times of metrics and console, the schedule of garbage collection | none | not counted |
| clients: delays before they reconnect, `reconnect` | none | the rest of the delay follows after the sleep |

Wall clock: times exchanged with others.

| use | a step | a sleep |
| --- | --- | --- |
| `time` of events (memory, SQLite) and of webhooks, `time_ms`, `started_ms`, log lines | shown as it is | shown as it is |
| `exp` and `nbf` of tokens | forward: tokens expire early, clients ask for new ones; back: late | counts |
| webhooks: `webhook-timestamp`, the age at which an entry is put aside | forward: put aside early; back: late | counts |
| new tokens: `greenroom token`, the commands, `--dev` | made for the time of the wall clock | - |
| `Retry-After` as a date | none where the answer has a `Date`: the difference of the two counts | - |
| Redis' own clock: expiry of keys, leases of nodes | forward: keys expire early, by Redis' own rules, and users of other nodes leave and come back; back: dead nodes are detected late | - |
"""

import sys
import time
from collections.abc import Callable
from typing import TypeAlias

import attrs

Clock: TypeAlias = Callable[[], float]
"""Returns seconds since an arbitrary moment."""

SLEEP_SECONDS = 0.5
"""Smallest difference between two clocks that counts as a sleep, as they are not read at the same moment."""


def _boot_clock_id() -> int | None:
    if sys.platform == "darwin":
        return time.CLOCK_MONOTONIC
    return getattr(time, "CLOCK_BOOTTIME", None)


_BOOT_CLOCK_ID = _boot_clock_id()


def boot_clock() -> float:
    """Return seconds since an arbitrary moment, sleep of the machine included where the system counts it."""
    return time.monotonic() if _BOOT_CLOCK_ID is None else time.clock_gettime(_BOOT_CLOCK_ID)


def trio_clock() -> Clock:
    """Return the clock of this run that `trio.current_time` finds anew each time: for what reads it for each message."""
    import trio  # noqa: PLC0415  # the server has imported it; a client on asyncio needs it not

    return trio.lowlevel.current_clock().current_time


@attrs.define
class SleepAwareClock:
    """A monotonic clock that includes the machine's sleep since the first call.

    It never goes back. Compare its times only with each other. With trio's time as the monotonic clock, a test sets it.
    """

    _monotonic: Clock
    _boot: Clock = boot_clock
    _still: Clock = time.perf_counter
    """The clock that stops during sleep; its difference to `boot` is the time slept."""
    _ahead: float | None = None
    _slept: float = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        # In this order a delay between the two reads makes the difference smaller, and so is no sleep.
        ahead = self._boot() - self._still()
        if self._ahead is None:
            self._ahead = ahead
        elif ahead - self._ahead >= SLEEP_SECONDS:
            self._slept += ahead - self._ahead
            self._ahead = ahead
        return self._monotonic() + self._slept
