"""Traffic of the last minutes, a point for each second, also for a console opened late."""

import time
from collections import deque
from collections.abc import Callable
from typing import Annotated

import attrs
import msgspec
import trio
from msgspec import Meta

from broker.histograms import DelayHistogram, quantile_seconds
from broker.http.nodes.busiest import SampleWindow
from broker.model import WallClock
from broker.rooms.directory import Rooms
from broker.sessions.connections import Connections

INTERVAL_SECONDS = 1.0
POINTS = 300
"""Five minutes."""
MINUTE_POINTS = 60


class TrafficPoint(msgspec.Struct, frozen=True):
    """Traffic since the point before."""

    number: Annotated[int, Meta(description="from 1, without gap, since the server started")]
    time_ms: Annotated[int, Meta(description="when it ended, Unix milliseconds")]
    publishes_per_second: float
    deliveries_per_second: Annotated[float, Meta(description="notices offered to members of rooms")]
    connections: Annotated[int, Meta(description="of users")]
    cpu: Annotated[float, Meta(description="processor time of the process per second: 1 is a whole core")]
    p50_ms: Annotated[
        float | None,
        Meta(description="of the time from a publish's turn in its room until everyone's outbox has it"),
    ]
    p99_ms: Annotated[float | None, Meta(description="likewise; null when nothing was published")]


@attrs.frozen
class Reading:
    """The counters at one moment."""

    at: float
    """Seconds of a monotonic clock."""
    time_ms: int
    deliveries: int
    connections: int
    cpu_seconds: float
    delays: tuple[int, ...]
    """See DelayHistogram.snapshot."""


def point_between(number: int, before: Reading, after: Reading) -> TrafficPoint:
    """Return the traffic between two readings; the first must be the earlier one."""
    seconds = after.at - before.at
    delays = [new - old for old, new in zip(before.delays, after.delays, strict=True)]
    return TrafficPoint(
        number=number,
        time_ms=after.time_ms,
        publishes_per_second=round(sum(delays) / seconds, 1),
        deliveries_per_second=round((after.deliveries - before.deliveries) / seconds, 1),
        connections=after.connections,
        cpu=round((after.cpu_seconds - before.cpu_seconds) / seconds, 3),
        p50_ms=_milliseconds(quantile_seconds(delays, 0.5)),
        p99_ms=_milliseconds(quantile_seconds(delays, 0.99)),
    )


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


class Traffic:
    """The newest points, the oldest dropped; pure."""

    def __init__(self, points: int = POINTS) -> None:
        self._points: deque[TrafficPoint] = deque(maxlen=points)
        self._delays: deque[tuple[int, ...]] = deque(maxlen=MINUTE_POINTS + 1)
        self._last: Reading | None = None
        self._number = 0
        self.lag = DelayHistogram()
        """How much later than due the event loop woke the task that records the points."""

    def note(self, reading: Reading) -> None:
        """Add the point that ends with `reading`; nothing is added for the first, or if no time has passed."""
        if self._last is not None:
            if reading.at <= self._last.at:
                return
            self._number += 1
            self._points.append(point_between(self._number, self._last, reading))
        self._last = reading
        self._delays.append(reading.delays)

    @property
    def last(self) -> TrafficPoint | None:
        """The newest point, None before there is one."""
        return self._points[-1] if self._points else None

    @property
    def minute_p99_ms(self) -> float | None:
        """The p99 of the delays of the last minute, None if nothing was published in it."""
        if not self._delays:
            return None
        delays = [new - old for old, new in zip(self._delays[0], self._delays[-1], strict=True)]
        return _milliseconds(quantile_seconds(delays, 0.99))

    def after(self, time_ms: int) -> list[TrafficPoint]:
        """Return the points that ended at or after a time, in Unix milliseconds."""
        return [point for point in self._points if point.time_ms >= time_ms]

    def since(self, number: int) -> list[TrafficPoint]:
        """Return the points after that number; all of them if there is no such number yet, as after a restart."""
        if number > self._number:
            number = 0
        return [point for point in self._points if point.number > number]


@attrs.frozen
class TrafficMeter:
    """Reads the counters of the rooms and connections."""

    _rooms: Rooms
    _connections: Connections
    _wall_clock: WallClock

    def read(self) -> Reading:
        """Return the counters as they are now."""
        tally = self._rooms.tally
        return Reading(
            at=trio.current_time(),
            time_ms=int(self._wall_clock() * 1000),
            deliveries=tally.deliveries,
            connections=self._connections.of_users,
            cpu_seconds=time.process_time(),
            delays=tally.delays.snapshot(),
        )


async def run_traffic(traffic: Traffic, samples: SampleWindow, read: Callable[[], Reading]) -> None:
    """Record a reading each second until cancelled: some microseconds each. Drop old `samples` of a closed console."""
    while True:
        reading = read()
        traffic.note(reading)
        samples.forget(reading.at)
        due_at = trio.current_time() + INTERVAL_SECONDS
        await trio.sleep_until(due_at)
        traffic.lag.note(trio.current_time() - due_at)
