"""The schedule of garbage collection in a process that is only a server.

By default CPython traverses all objects whenever their number has grown by a quarter. A connection is some 160
long-lived objects: while many are accepted, that takes a third of the time, in pauses of 0.5 s at 5,000 connections.

Two kinds of collection replace it, each for at most TIME_SHARE of the time:

- NEW traverses the objects made since the last collection and freezes the survivors (`gc.freeze`). Later ones skip
  them, so the cost depends on the new objects only and not on the size of the heap.
- ALL unfreezes and traverses everything, for cycles among frozen objects: ended connections and rooms. It is due
  when as many have ended as are alive, and less often each time it finds next to no garbage.
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import NoReturn

import attrs
import trio

THRESHOLDS = (20_000, 20, 100)
"""Arguments of gc.set_threshold: collect the young generation after 20,000 net allocations, the middle one after 20
young collections, the old one after 100 middle ones."""

MIN_ENDED = 1000
"""Ended connections and rooms before which no collection is due on their account."""

TIME_SHARE = 0.02
"""Largest share of the time for each of the two kinds, its first collection excepted."""

MIN_GARBAGE_SHARE = 0.01
"""Share of all objects that an ALL has to find as garbage; below it the next one is due after twice as many ends."""

MAX_BACKOFF = 64
"""Largest factor by which an ALL becomes less frequent."""


class Collection(Enum):
    """The objects that a collection traverses."""

    NEW = "new"
    ALL = "all"


@attrs.frozen
class CollectionResult:
    """The time and the findings of a collection."""

    seconds: float
    garbage: int
    """Collected objects."""
    left: int
    """Objects left in the process, all of them frozen."""


@attrs.frozen
class Load:
    """The numbers of present and of ended connections and rooms, and of CPython's own collections."""

    alive: int
    ended: int
    middle_collections: int = 0


@attrs.define
class Schedule:
    """Decides which collection is due. Pure; times are seconds of a monotonic clock."""

    _new_at: Load
    _all_at: Load
    _new_not_before: float = 0.0
    _all_not_before: float = 0.0
    _backoff: int = 1

    @classmethod
    def begin(cls, load: Load) -> "Schedule":
        """Return the schedule of a process right after a collection of all objects."""
        return cls(load, load)

    def due(self, load: Load, now: float) -> Collection | None:
        """Return the collection that is due now, if any."""
        most = max(MIN_ENDED, load.alive) * self._backoff
        if load.ended - self._all_at.ended >= most and now >= self._all_not_before:
            return Collection.ALL
        # A growing heap is frozen in parts, or the first collection after the growth would traverse all of it.
        has_grown = load.middle_collections > self._new_at.middle_collections
        if (has_grown or load.ended - self._new_at.ended >= MIN_ENDED) and now >= self._new_not_before:
            return Collection.NEW
        return None

    def note(self, collection: Collection, result: CollectionResult, load: Load, now: float) -> None:
        """Note a collection that ended at `now`; `load` is the one before it."""
        pause_seconds = result.seconds * (1 / TIME_SHARE - 1)
        self._new_at = load
        if collection is Collection.NEW:
            self._new_not_before = now + pause_seconds
            return
        self._all_at, self._all_not_before = load, now + pause_seconds
        is_worth_it = result.garbage >= MIN_GARBAGE_SHARE * (result.garbage + result.left)
        self._backoff = 1 if is_worth_it else min(MAX_BACKOFF, 2 * self._backoff)


def collect(collection: Collection) -> CollectionResult:
    """Collect, and freeze the survivors."""
    began = time.perf_counter()
    if collection is Collection.ALL:
        gc.unfreeze()
    garbage = gc.collect()
    gc.freeze()
    return CollectionResult(time.perf_counter() - began, garbage, gc.get_freeze_count())


@contextmanager
def rare_collection() -> Iterator[None]:
    """Freeze all present objects and collect rarely inside the block; for a program that owns its process.

    The modules alone are some 80,000 permanent objects, which take 20 ms to traverse.
    """
    before = gc.get_threshold()
    gc.set_threshold(*THRESHOLDS)
    collect(Collection.NEW)
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


async def run_collector(
    count_alive: Callable[[], int], count_ended: Callable[[], int], *, interval_seconds: float
) -> NoReturn:
    """Collect by the schedule, for ever. The counts are of connections and rooms."""

    def load() -> Load:
        return Load(count_alive(), count_ended(), gc.get_stats()[1]["collections"])

    schedule = Schedule.begin(load())
    while True:
        await trio.sleep(interval_seconds)
        collection = schedule.due(load(), trio.current_time())
        if collection is not None:
            result = collect(collection)
            schedule.note(collection, result, load(), trio.current_time())
