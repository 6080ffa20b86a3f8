"""The token bucket against the law it stands for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.sessions.rate import TokenBucket

GAPS = st.lists(st.floats(0, 3), min_size=1, max_size=60)


@given(st.floats(0.1, 100), st.integers(1, 20), GAPS)
def test_no_span_of_time_sees_more_than_its_share_and_the_burst(
    rate: float, burst: int, gaps: list[float]
) -> None:
    now, bucket = 5.0, TokenBucket(rate, burst, 5.0)
    passed: list[float] = []
    for gap in gaps:
        now += gap
        if bucket.take(now) == 0:
            passed.append(now)
    for i, first in enumerate(passed):
        for j, last in enumerate(passed[i:], start=1):
            assert j <= burst + (last - first) * rate + 1e-6


@given(st.floats(0.1, 100), st.integers(1, 20), GAPS)
def test_a_client_that_waits_for_retry_after_is_accepted(rate: float, burst: int, gaps: list[float]) -> None:
    now, bucket = 0.0, TokenBucket(rate, burst, 0.0)
    for gap in gaps:
        now += gap
        wait_seconds = bucket.take(now)
        assert wait_seconds >= 0
        if wait_seconds:
            assert wait_seconds <= 1 / rate + 1e-9
            assert TokenBucket.take(bucket, now + wait_seconds * 0.5) > 0, "less would not have been enough"
            now += wait_seconds + 1e-6
            assert bucket.take(now) == 0


@given(st.floats(0.1, 1000), st.integers(1, 50))
def test_a_burst_passes_at_once_and_no_more(rate: float, burst: int) -> None:
    bucket = TokenBucket(rate, burst, 100.0)
    assert [bucket.take(100.0) for _ in range(burst)] == [0.0] * burst
    assert bucket.take(100.0) == pytest.approx(1 / rate)
    # However long the silence, it earns one burst.
    later = 100.0 + 10 * burst / rate
    assert [bucket.take(later) for _ in range(burst)] == [0.0] * burst
    assert bucket.take(later) > 0


@given(st.floats(0.1, 100), st.integers(1, 20), st.floats(0, 60), GAPS)
def test_a_delayed_client_may_catch_up_once(
    rate: float, burst: int, held_seconds: float, gaps: list[float]
) -> None:
    bucket = TokenBucket(rate, burst, 0.0)
    for _ in range(burst):
        assert bucket.take(0.0) == 0
    bucket.credit_elapsed(held_seconds)
    now = held_seconds
    passed = sum(bucket.take(now) == 0 for _ in range(int(held_seconds * rate) + 5))
    assert passed == pytest.approx(int(held_seconds * rate), abs=1), (
        "as many as were due, above the burst too"
    )
    # And from then on it is like any other.
    started, late = now, 0
    for gap in gaps:
        now += gap
        late += bucket.take(now) == 0
    assert late <= burst + 1 + (now - started) * rate
