"""Cycles are looked for as connections end, at a bounded share of the time; the process is left as it was found."""

import gc
import weakref

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.garbage import (
    MAX_BACKOFF,
    MIN_ENDED,
    THRESHOLDS,
    TIME_SHARE,
    Collection,
    CollectionResult,
    Load,
    Schedule,
    collect,
    rare_collection,
    run_collector,
)


class Cycle:
    def __init__(self) -> None:
        self.me = self


def test_the_process_is_left_as_it_was_found() -> None:
    before = gc.get_threshold()
    with rare_collection():
        assert gc.get_threshold() == THRESHOLDS
        assert gc.get_freeze_count()
    assert gc.get_threshold() == before
    assert not gc.get_freeze_count()


def test_only_objects_made_after_the_freeze_are_scanned() -> None:
    here = [Cycle() for _ in range(10)]
    with rare_collection():
        come = [Cycle() for _ in range(10)]
        looked_at = {id(cycle) for cycle in gc.get_objects()}
        assert not looked_at & {id(cycle) for cycle in here}
        assert looked_at >= {id(cycle) for cycle in come}


def test_objects_that_survive_a_collection_are_not_scanned_by_the_next() -> None:
    with rare_collection():
        rooms = [Cycle() for _ in range(10_000)]
        assert len(gc.get_objects()) >= len(rooms)
        for sweep in Collection:
            left = collect(sweep).left
            assert left >= len(rooms)
            assert len(gc.get_objects()) < 1000


def test_frozen_garbage_is_freed_by_the_full_sweep() -> None:
    with rare_collection():
        cycle = Cycle()
        held = weakref.ref(cycle)
        collect(Collection.NEW)
        del cycle
        collect(Collection.NEW)
        assert held() is not None
        assert collect(Collection.ALL).garbage
        assert held() is None


@attrs.define
class Server:
    """Connections that come and go, and a collector that takes as long as it is told."""

    alive: int
    schedule: Schedule = attrs.field(init=False)
    ended: int = 0
    now: float = 1000.0
    seconds: dict[Collection, list[float]] = attrs.Factory(lambda: {sweep: [] for sweep in Collection})

    def __attrs_post_init__(self) -> None:
        self.schedule = Schedule.begin(self.load)

    @property
    def load(self) -> Load:
        return Load(self.alive, self.ended)

    def pass_second(self, ended: int, took_seconds: float, garbage: int = 0) -> None:
        self.now += 1.0
        self.ended += ended
        sweep = self.schedule.due(self.load, self.now)
        if sweep is not None:
            self.now += took_seconds
            self.seconds[sweep].append(took_seconds)
            self.schedule.note(sweep, CollectionResult(took_seconds, garbage, 1_000_000), self.load, self.now)


@given(
    st.integers(0, 200_000),
    st.lists(st.tuples(st.integers(0, 5000), st.floats(0.001, 10.0), st.integers(0, 500_000)), max_size=300),
)
def test_each_kind_takes_its_share_of_the_time_at_most_but_for_the_first(
    alive: int, seconds: list[tuple[int, float, int]]
) -> None:
    server = Server(alive)
    began = server.now
    for ended, took_seconds, garbage in seconds:
        server.pass_second(ended, took_seconds, garbage)
    for taken in server.seconds.values():
        assert sum(taken[:-1]) <= TIME_SHARE * (server.now - began) + 1e-6
        # As they do not begin before the share of the last one is over, the bound holds for each of them.
        assert len(taken) <= (server.now - began) / (min(taken, default=1.0) / TIME_SHARE) + 1


@pytest.mark.parametrize("alive", [0, 10_000, 100_000])
def test_a_flood_of_short_connections_has_everything_looked_through_ever_more_rarely(alive: int) -> None:
    server = Server(alive)
    for _ in range(3600):
        server.pass_second(1000, took_seconds=0.001)
    most = 3600 * 1000 / (MAX_BACKOFF * max(MIN_ENDED, alive))
    assert len(server.seconds[Collection.ALL]) <= most + 8
    assert len(server.seconds[Collection.NEW]) >= 3000


def test_collections_are_as_frequent_as_connections_are_replaced() -> None:
    server = Server(10_000)
    for _ in range(1000):
        server.pass_second(100, took_seconds=0.001, garbage=500_000)
    assert len(server.seconds[Collection.ALL]) == 1000 * 100 / 10_000


async def test_garbage_of_ended_connections_is_freed_once_enough_have_ended(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    alive, ended = 3 * MIN_ENDED, 0
    with rare_collection():
        frozen = Cycle()
        held = weakref.ref(frozen)
        collect(Collection.NEW)
        del frozen
        nursery.start_soon(lambda: run_collector(lambda: alive, lambda: ended, interval_seconds=1))
        await wait_all_tasks_blocked()
        left_over = weakref.ref(Cycle())
        ended = MIN_ENDED - 1
        await trio.sleep(100)
        assert left_over() is not None
        ended = MIN_ENDED
        await trio.sleep(100)
        assert left_over() is None
        left_over = weakref.ref(Cycle())
        await trio.sleep(100)
        assert left_over() is not None, "it is counted from the last time"
        assert held() is not None
        ended = alive
        await trio.sleep(1000)
        assert held() is None
    nursery.cancel_scope.cancel()
