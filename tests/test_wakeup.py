"""A task that waits for work: no wakeup is lost, and none is counted twice."""

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from broker.wakeup import Wakeup


async def is_set(wakeup: Wakeup) -> bool:
    """Whether a wait would not block; spends it."""
    with trio.move_on_after(0.001) as scope:
        await wakeup.wait()
    return not scope.cancelled_caught


@pytest.mark.parametrize("sets", [1, 3])
async def test_sets_before_a_wait_count_as_one(autojump_clock: trio.testing.MockClock, sets: int) -> None:
    wakeup = Wakeup()
    assert not await is_set(wakeup)
    for _ in range(sets):
        wakeup.set()
    assert await is_set(wakeup)
    assert not await is_set(wakeup)


async def test_a_set_taken_back_wakes_no_task(autojump_clock: trio.testing.MockClock) -> None:
    wakeup = Wakeup()
    wakeup.set()
    wakeup.clear()
    assert not await is_set(wakeup)


async def test_one_set_wakes_every_task_that_waits(autojump_clock: trio.testing.MockClock) -> None:
    wakeup = Wakeup()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wakeup.wait)
        await trio.testing.wait_all_tasks_blocked()
        wakeup.clear()  # nothing to take back: they go on waiting
        wakeup.set()
    assert not await is_set(wakeup)


async def test_a_set_between_two_tasks_that_wake_is_not_lost(autojump_clock: trio.testing.MockClock) -> None:
    """The first task that wakes sets it again, before the second one has returned."""
    wakeup = Wakeup()

    async def wait_and_set() -> None:
        await wakeup.wait()
        wakeup.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_and_set)
        nursery.start_soon(wait_and_set)
        await trio.testing.wait_all_tasks_blocked()
        wakeup.set()
    assert await is_set(wakeup)


async def test_a_cancelled_wait_spends_nothing(autojump_clock: trio.testing.MockClock) -> None:
    wakeup = Wakeup()
    wakeup.set()
    with trio.CancelScope() as scope:
        scope.cancel()
        await wakeup.wait()
    assert scope.cancelled_caught
    assert await is_set(wakeup)


@given(acts=st.lists(st.sampled_from(["set", "clear", "wait"]), max_size=20))
def test_alone_it_is_a_flag_that_a_wait_spends(acts: list[str]) -> None:
    async def main() -> None:
        wakeup, flag = Wakeup(), False
        for act in acts:
            match act:
                case "set":
                    wakeup.set()
                    flag = True
                case "clear":
                    wakeup.clear()
                    flag = False
                case _:
                    assert await is_set(wakeup) == flag
                    flag = False

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
