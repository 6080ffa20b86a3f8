"""When the clients of a stopping server are sent away."""

from random import Random

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from broker.drain import TICK_SECONDS, disconnect_in_time, plan_disconnects

windows = st.floats(0, 3600)
seeds = st.integers(0, 2**32)


@given(st.integers(0, 300), windows, seeds)
def test_every_client_has_a_delay_within_the_window(count: int, window_seconds: float, seed: int) -> None:
    delays = plan_disconnects(count, window_seconds, Random(seed))
    assert len(delays) == count
    assert all(0 <= delay <= window_seconds for delay in delays)


@given(st.integers(1, 300), st.floats(0.001, 3600), seeds)
def test_one_client_leaves_in_each_part_of_the_window(count: int, window_seconds: float, seed: int) -> None:
    delays = sorted(plan_disconnects(count, window_seconds, Random(seed)))
    part_seconds = window_seconds / count
    for part, delay in enumerate(delays):
        # A rounding error of some units in the last place.
        assert part * part_seconds * (1 - 1e-9) <= delay <= (part + 1) * part_seconds * (1 + 1e-9)


def test_the_order_of_disconnection_is_not_that_of_connection() -> None:
    delays = plan_disconnects(1000, 10.0, Random(1))
    assert delays != sorted(delays)
    early = sum(delay < 5 for delay in delays[:500])
    assert 200 < early < 300


def test_two_servers_do_not_send_their_clients_away_at_the_same_times() -> None:
    assert set(plan_disconnects(100, 10.0, Random(1))).isdisjoint(plan_disconnects(100, 10.0, Random(2)))


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200))
def test_everyone_is_sent_away_in_time_and_in_order(delays: list[float]) -> None:
    gone: list[tuple[float, int]] = []
    began: list[float] = []

    async def main() -> None:
        began.append(trio.current_time())
        await disconnect_in_time(
            [(delay, number) for number, delay in enumerate(delays)],
            lambda number: gone.append((trio.current_time(), number)),
            trio.sleep_forever,
            started=trio.current_time(),
        )

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert [number for _, number in gone] == sorted(range(len(delays)), key=lambda number: delays[number])
    for gone_at, number in gone:
        assert delays[number] <= gone_at - began[0] + 1e-6 <= delays[number] + TICK_SECONDS + 2e-6


class Steps(trio.abc.Instrument):
    """Counts the steps of all tasks."""

    count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count one."""
        self.count += 1


async def test_a_node_that_fell_behind_sends_away_all_that_are_due_in_one_turn(
    autojump_clock: MockClock,
) -> None:
    gone: list[int] = []

    def disconnect(number: int) -> None:
        gone.append(number)
        if number == 0:
            # It was busy for the rest of the window.
            autojump_clock.jump(10)

    schedule = [(number / 100, number) for number in range(1000)]
    steps, began = Steps(), trio.current_time()
    trio.lowlevel.add_instrument(steps)
    await disconnect_in_time(schedule, disconnect, trio.sleep_forever, started=began)
    trio.lowlevel.remove_instrument(steps)
    assert gone == list(range(1000))
    assert steps.count < 50


async def test_the_drain_ends_with_the_last_connection() -> None:
    gone: list[int] = []
    began = trio.current_time()
    await disconnect_in_time([(3600, 1)], gone.append, trio.lowlevel.checkpoint, started=began)
    assert not gone
