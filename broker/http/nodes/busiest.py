"""The busiest or largest rooms out of any number. Pure."""

import heapq
from collections.abc import Mapping
from typing import Literal, TypeAlias

import attrs

LEAST_INTERVAL_SECONDS = 0.9
"""Minimum age of a baseline. Requests that come sooner share the sample before, as a rate over less time is noise."""

MOST_AGE_SECONDS = 10.0
"""Maximum age of a baseline."""

Order: TypeAlias = Literal["busiest", "largest"]


@attrs.frozen
class Sample:
    """The number of messages published in each room by one moment; `at` is in seconds of a monotonic clock."""

    at: float
    said: Mapping[str, int]


class SampleWindow:
    """The last two samples of all rooms. Call `forget` each second, so that none is kept once no console is open."""

    def __init__(self) -> None:
        self._older: Sample | None = None
        self._newer: Sample | None = None

    def baseline(self, now: float) -> Sample | None:
        """Return the sample to measure rates from; None if there is none that is recent."""
        self.forget(now)
        if self._newer is not None and now - self._newer.at < LEAST_INTERVAL_SECONDS:
            return self._older
        return self._newer

    def keep(self, sample: Sample) -> None:
        """Keep a sample, unless the last one is younger than LEAST_INTERVAL_SECONDS."""
        if self._newer is None or sample.at - self._newer.at >= LEAST_INTERVAL_SECONDS:
            self._older, self._newer = self._newer, sample

    def forget(self, now: float) -> None:
        """Drop samples older than MOST_AGE_SECONDS."""
        if self._older is not None and now - self._older.at > MOST_AGE_SECONDS:
            self._older = None
        if self._newer is not None and now - self._newer.at > MOST_AGE_SECONDS:
            self._newer = None


def messages_per_second(sample: Sample | None, now: float, room: str, said: int) -> float | None:
    """Return the rate of a room's messages since `sample`; None without one.

    A room that is not in the sample, or has restarted since, counts from 0.
    """
    if sample is None or now <= sample.at:
        return None
    before = sample.said.get(room, 0)
    return (said if said < before else said - before) / (now - sample.at)


class Top:
    """The `limit` first of the rooms added, in the given order; ties go to the other measure.

    Among rooms equal in both, the choice is arbitrary.
    """

    def __init__(self, limit: int, order: Order) -> None:
        self._limit = limit
        self._is_by_rate = order == "busiest"
        self._heap: list[tuple[float, float, str, float | None]] = []
        self._bar = (-1.0, -1.0)  # the measures of the last room in, once `limit` are

    def add(self, room: str, size: int, rate: float | None) -> None:
        """Add a room. Most of many rooms are below the bar and cost one comparison."""
        measures = (rate or 0.0, size) if self._is_by_rate else (size, rate or 0.0)
        if measures <= self._bar:
            return
        entry = (*measures, room, rate)
        if len(self._heap) < self._limit:
            heapq.heappush(self._heap, entry)
        elif self._heap:
            heapq.heapreplace(self._heap, entry)
        if self._heap and len(self._heap) == self._limit:
            self._bar = self._heap[0][:2]

    def rooms(self) -> list[tuple[str, int, float | None]]:
        """Return (room, size, rate) of the first ones."""
        ordered = sorted(self._heap, key=lambda entry: (-entry[0], -entry[1], entry[2]))
        return [
            (room, int(second if self._is_by_rate else first), rate) for first, second, room, rate in ordered
        ]
