"""When the clients of a stopping server are sent away."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from broker.drain import plan_disconnects

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
