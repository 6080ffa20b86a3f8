"""Which rooms have most going on, out of any number of them. Pure."""

import heapq
from collections.abc import Mapping
from typing import Literal, TypeAlias

import attrs

LEAST_SECONDS = 0.9
"""Looks closer together than this are measured from the same one before: a rate needs some time to be one."""

MOST_SECONDS = 10.0
"""A look longer ago tells nothing about now."""

Order: TypeAlias = Literal["busiest", "largest"]


@attrs.frozen
class Look:
    """How many messages each room had said at one moment; `at` is seconds of a clock that never goes back."""

    at: float
    said: Mapping[str, int]


class Looks:
    """The last two looks at all rooms. Nothing is kept of rooms while nobody looks: call `forget` each second."""

    def __init__(self) -> None:
        self._older: Look | None = None
        self._newer: Look | None = None

    def baseline(self, now: float) -> Look | None:
        """Return the look to measure rates from; None if there is none that is recent."""
        self.forget(now)
        if self._newer is not None and now - self._newer.at < LEAST_SECONDS:
            return self._older
        return self._newer

    def keep(self, look: Look) -> None:
        """Remember a look, unless the last one is hardly older."""
        if self._newer is None or look.at - self._newer.at >= LEAST_SECONDS:
            self._older, self._newer = self._newer, look

    def forget(self, now: float) -> None:
        """Drop what is too old to be of use."""
        if self._older is not None and now - self._older.at > MOST_SECONDS:
            self._older = None
        if self._newer is not None and now - self._newer.at > MOST_SECONDS:
            self._newer = None


def messages_per_second(look: Look | None, now: float, room: str, said: int) -> float | None:
    """Return how fast a room's count of messages grew since `look`; None without one.

    A room that was not there then, or has started anew since, began at 0.
    """
    if look is None or now <= look.at:
        return None
    before = look.said.get(room, 0)
    return (said if said < before else said - before) / (now - look.at)


class Top:
    """The `limit` first of the rooms added, in the given order; ties go to the other measure.

    Which of several that are equal in both are among them is left open.
    """

    def __init__(self, limit: int, order: Order) -> None:
        self._limit = limit
        self._is_by_rate = order == "busiest"
        self._heap: list[tuple[float, float, str, float | None]] = []
        self._bar = (-1.0, -1.0)  # the measures of the last of those that are in, once there are enough

    def add(self, room: str, size: int, rate: float | None) -> None:
        """Consider a room. Most of many are below the bar, and cost no more than to find that out."""
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
