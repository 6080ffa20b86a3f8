"""Large rooms share the time that is not other tasks'."""

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.rooms.time_slice import TIME_SLICE_SECONDS, TimeSlice

PART_SECONDS = TIME_SLICE_SECONDS / 10


async def test_many_rooms_take_one_slice_of_each_turn_and_all_get_theirs(mock_clock: MockClock) -> None:
    time_slice = TimeSlice()
    done = [0] * 20
    turns = 0

    async def send(room: int) -> None:
        for _ in range(50):
            if time_slice.is_over():
                await time_slice.wait_next()
            mock_clock.jump(PART_SECONDS)
            done[room] += 1

    async with trio.open_nursery() as nursery:
        for room in range(20):
            nursery.start_soon(send, room)
        most, before = 0, 0
        while sum(done) < 20 * 50:
            await trio.lowlevel.checkpoint()
            turns += 1
            most = max(most, sum(done) - before)
            before = sum(done)
            # First come, first served: none is a whole slice ahead of another that waits as long.
            assert max(done) - min(done) <= 2 * 10 + 2
    # A task may run last in one turn and first in the next.
    assert most <= 2 * 10 + 2
    assert turns >= 20 * 50 / 22


async def test_a_cancelled_waiter_does_not_delay_the_others(mock_clock: MockClock) -> None:
    time_slice = TimeSlice()
    passed = []

    async def wait(name: str, scope: trio.CancelScope) -> None:
        with scope:
            await time_slice.wait_next()
            passed.append(name)

    scopes = {name: trio.CancelScope() for name in "abc"}
    async with trio.open_nursery() as nursery:
        for name, scope in scopes.items():
            nursery.start_soon(wait, name, scope)
        scopes["b"].cancel()
        await wait_all_tasks_blocked()
    assert set(passed) == {"a", "c"}
    assert not time_slice.is_over()
    mock_clock.jump(TIME_SLICE_SECONDS)
    assert time_slice.is_over()
