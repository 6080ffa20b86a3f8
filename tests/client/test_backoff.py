"""When a client comes back, and whether."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from broker.client.backoff import backoff_seconds, may_reconnect
from broker.errors import CloseCode


@given(st.integers(0, 10_000), st.integers())
def test_delays_stay_within_a_cap_that_doubles(attempt, seed):
    delay = backoff_seconds(attempt, Random(seed))
    assert 0 <= delay <= min(30.0, 2.0 ** min(attempt, 10))


def test_delays_are_spread():
    random = Random(1)
    delays = [backoff_seconds(10, random) for _ in range(1000)]
    assert min(delays) < 1.0
    assert max(delays) > 29.0


def test_the_close_code_says_whether_to_come_back():
    final = {code for code in CloseCode if not may_reconnect(code)}
    assert final == {CloseCode.NORMAL, CloseCode.UNAUTHORIZED, CloseCode.FORBIDDEN, CloseCode.REMOVED}
    assert may_reconnect(1006)
