"""Everybody's writes go out in one go: in order, and in turns with all other tasks."""

from collections.abc import AsyncIterator, Callable
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.transport.flusher import (
    BYTES_PER_CLOCK_READ,
    SLICE_SECONDS,
    WRITES_PER_CLOCK_READ,
    Flusher,
    open_flusher,
)


@pytest.fixture
async def flusher() -> AsyncIterator[Flusher]:
    async with open_flusher() as flusher:
        yield flusher


def noting(called: list[int], number: int) -> Callable[[], int]:
    """Return a flush that writes down its number."""

    def flush() -> int:
        called.append(number)
        return 1

    return flush


async def test_what_is_scheduled_is_called_once_in_order_and_behind_the_turn(flusher: Flusher) -> None:
    called: list[int] = []
    await wait_all_tasks_blocked()
    for turn in (1, 2):
        for number in range(3):
            flusher.schedule(noting(called, turn * 10 + number))
        assert len(called) == 3 * (turn - 1), "whoever schedules is not written for amid its turn"
        await wait_all_tasks_blocked()
    assert called == [10, 11, 12, 20, 21, 22]
    assert (flusher.batches.total, sum(flusher.batches.snapshot())) == (6, 2), "two batches of three"


async def test_what_is_scheduled_before_it_runs_is_called(nursery: trio.Nursery) -> None:
    flusher, called = Flusher(), list[int]()
    flusher.schedule(noting(called, 1))
    nursery.start_soon(flusher.run)
    await wait_all_tasks_blocked()
    assert called == [1]
    nursery.cancel_scope.cancel()


async def test_one_that_schedules_itself_again_leaves_others_their_turn(flusher: Flusher) -> None:
    turns = 0

    def again() -> int:
        nonlocal turns
        turns += 1
        if turns < 1000:
            flusher.schedule(again)
        return 1

    flusher.schedule(again)
    await wait_all_tasks_blocked()
    assert turns == 1000


def slow(clock: MockClock, called: list[str], name: str) -> Callable[[], int]:
    """Return a flush that takes as long as makes WRITES_PER_CLOCK_READ of them a slice."""

    def flush() -> int:
        clock.jump(1.01 * SLICE_SECONDS / WRITES_PER_CLOCK_READ)
        called.append(name)
        return 100

    return flush


async def test_many_writes_leave_other_tasks_their_turn(mock_clock: MockClock) -> None:
    called: list[str] = []
    seen: list[int] = []
    async with open_flusher() as flusher, trio.open_nursery() as nursery:

        async def look() -> None:
            while True:
                seen.append(len(called))
                await trio.lowlevel.checkpoint()

        await wait_all_tasks_blocked()
        for _ in range(10 * WRITES_PER_CLOCK_READ):
            flusher.schedule(slow(mock_clock, called, "x"))
        nursery.start_soon(look)
        while len(called) < 10 * WRITES_PER_CLOCK_READ:  # noqa: ASYNC110
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    steps = [after - before for before, after in pairwise(seen)]
    # trio may run one task last in a turn and first in the next.
    assert max(steps) <= 2 * WRITES_PER_CLOCK_READ


async def test_large_writes_are_looked_at_sooner(mock_clock: MockClock) -> None:
    written = 0
    seen: list[int] = []

    def write_much() -> int:
        nonlocal written
        mock_clock.jump(2 * SLICE_SECONDS)
        written += 1
        return BYTES_PER_CLOCK_READ

    async with open_flusher() as flusher:
        await wait_all_tasks_blocked()
        for _ in range(10):
            flusher.schedule(write_much)
        while written < 10:
            await trio.lowlevel.checkpoint()
            seen.append(written)
    assert max(after - before for before, after in pairwise(seen)) <= 2
