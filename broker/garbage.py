"""When Python looks for garbage in cycles, in a process that is a server and nothing else.

By default CPython looks through all objects whenever they have grown by a quarter. Connections are some 160 objects
each and live long: while many come, that takes a third of the time, in stops of half a second at 5,000 connections.

So two kinds of collection are made here instead, each at most TIME_SHARE of the time:

- NEW looks through the objects made since the last collection and freezes those that survive (`gc.freeze`): no later
  one looks at them, so it costs no more than what has been made since, however much the server holds.
- ALL thaws and looks through everything, for the cycles among what was frozen: connections and rooms that have ended
  since. It is made when as many have ended as there are, and more rarely each time it finds next to nothing.
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
"""The young are looked at after so many new objects, the older after so many times, all after so many times that."""

FEWEST_ENDED = 1000

TIME_SHARE = 0.02
"""The most of the time that each of the two kinds may take, but for the first of it."""

LITTLE_FOUND = 0.01
"""An ALL that finds a smaller share of the objects to be garbage has hardly been worth it."""

MOST_PATIENCE = 64
"""How many times rarer than at first ALL becomes at most."""


class Collection(Enum):
    """What a collection looks through."""

    NEW = "new"
    ALL = "all"


@attrs.frozen
class CollectionResult:
    """What a collection took and found."""

    seconds: float
    garbage: int
    """Objects that were garbage in cycles."""
    left: int
    """Objects left in the process, all of them frozen."""


@attrs.frozen
class Load:
    """How many connections and rooms there are and were, and how often the collector of CPython itself ran."""

    alive: int
    ended: int
    middle_collections: int = 0


@attrs.define
class Schedule:
    """Decides what is collected when. Pure; times are in seconds, of a clock that never goes back."""

    _new_at: Load
    _all_at: Load
    _new_not_before: float = 0.0
    _all_not_before: float = 0.0
    _patience: int = 1

    @classmethod
    def begin(cls, load: Load) -> "Schedule":
        """Return the schedule of a process in which everything was looked through just now."""
        return cls(load, load)

    def due(self, load: Load, now: float) -> Collection | None:
        """Return what is to be looked through now, if anything."""
        most = max(FEWEST_ENDED, load.alive) * self._patience
        if load.ended - self._all_at.ended >= most and now >= self._all_not_before:
            return Collection.ALL
        # What has grown by much is frozen in pieces, or the first collection after it would look through all of it.
        has_grown = load.middle_collections > self._new_at.middle_collections
        if (has_grown or load.ended - self._new_at.ended >= FEWEST_ENDED) and now >= self._new_not_before:
            return Collection.NEW
        return None

    def note(self, sweep: Collection, swept: CollectionResult, load: Load, now: float) -> None:
        """Note a collection that was over at `now`, before which the load was this."""
        pause_seconds = swept.seconds * (1 / TIME_SHARE - 1)
        self._new_at = load
        if sweep is Collection.NEW:
            self._new_not_before = now + pause_seconds
            return
        self._all_at, self._all_not_before = load, now + pause_seconds
        is_worth_it = swept.garbage >= LITTLE_FOUND * (swept.garbage + swept.left)
        self._patience = 1 if is_worth_it else min(MOST_PATIENCE, 2 * self._patience)


def collect(sweep: Collection) -> CollectionResult:
    """Collect, and freeze what survives."""
    began = time.perf_counter()
    if sweep is Collection.ALL:
        gc.unfreeze()
    garbage = gc.collect()
    gc.freeze()
    return CollectionResult(time.perf_counter() - began, garbage, gc.get_freeze_count())


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Look seldom inside the block, and not at what is there already; for a program that owns its process.

    The modules alone are some 80,000 objects that stay to the end: 20 ms each time they are looked through.
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
    """Collect as the schedule has it, for ever. The counts are of connections and rooms."""

    def load() -> Load:
        return Load(count_alive(), count_ended(), gc.get_stats()[1]["collections"])

    schedule = Schedule.begin(load())
    while True:
        await trio.sleep(interval_seconds)
        sweep = schedule.due(load(), trio.current_time())
        if sweep is not None:
            swept = collect(sweep)
            schedule.note(sweep, swept, load(), trio.current_time())
