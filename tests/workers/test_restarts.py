"""When a worker is started again."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from broker.workers.restarts import MAX_SECONDS, STABLE_SECONDS, Restarts


class Longest(Random):
    def random(self) -> float:
        return 1.0


def test_delays_double_up_to_a_cap_and_begin_anew_after_a_long_life():
    restarts = Restarts(Longest())
    assert [restarts.ended(1.0) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert restarts.ended(STABLE_SECONDS) == 0.5
    assert restarts.ended(STABLE_SECONDS - 1) == 1.0


@given(st.lists(st.floats(0, 100), max_size=100), st.integers())
def test_no_worker_spins_and_none_stays_away(lives, seed):
    restarts = Restarts(Random(seed))
    for ran_seconds in lives:
        assert 0.25 <= restarts.ended(ran_seconds) <= MAX_SECONDS
