"""Cycles are looked for as connections end, and the process is left as it was found."""

import gc
import weakref

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.garbage import FEWEST_ENDED, THRESHOLDS, collecting_seldom, run_collector


class Cycle:
    def __init__(self) -> None:
        self.me = self


def test_the_process_is_left_as_it_was_found() -> None:
    before = gc.get_threshold()
    with collecting_seldom():
        assert gc.get_threshold() == THRESHOLDS
        assert gc.get_freeze_count()
    assert gc.get_threshold() == before
    assert not gc.get_freeze_count()


def test_what_is_there_already_is_not_looked_through_and_what_comes_is() -> None:
    here = [Cycle() for _ in range(10)]
    with collecting_seldom():
        come = [Cycle() for _ in range(10)]
        looked_at = {id(cycle) for cycle in gc.get_objects()}
        assert not looked_at & {id(cycle) for cycle in here}
        assert looked_at >= {id(cycle) for cycle in come}


async def test_what_ended_connections_leave_goes_once_as_many_have_ended_as_are_open(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    opened, ended = 3 * FEWEST_ENDED, 0
    with collecting_seldom():
        nursery.start_soon(lambda: run_collector(lambda: opened, lambda: ended, interval_seconds=1))
        await wait_all_tasks_blocked()
        gc.collect()
        left_over = weakref.ref(Cycle())
        ended = opened - 1
        await trio.sleep(5)
        assert left_over() is not None
        ended = opened
        await trio.sleep(1.5)
        assert left_over() is None
        left_over = weakref.ref(Cycle())
        await trio.sleep(5)
        assert left_over() is not None, "it is counted from the last time"
    nursery.cancel_scope.cancel()
