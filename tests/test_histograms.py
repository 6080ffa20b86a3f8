"""Delays and sizes, counted in buckets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.histograms import SIZE_BOUNDS, DelayHistogram, SizeHistogram, quantile_seconds, with_singles

delays_of_publishes = st.lists(st.floats(2e-5, 60), min_size=1, max_size=50)


@given(delays_of_publishes, st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_never_too_low_and_at_most_a_fifth_too_high(delays, share):
    counted = DelayHistogram()
    for seconds in delays:
        counted.note(seconds)
    right = next(seconds for rank, seconds in enumerate(sorted(delays), 1) if rank >= share * len(delays))
    assert right <= quantile_seconds(counted.snapshot(), share) <= right * 1.19 + 2e-5


def test_nothing_counted_has_no_quantile():
    assert quantile_seconds(DelayHistogram().snapshot(), 0.99) is None


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e9])
def test_the_histogram_has_a_bounded_size(seconds):
    delays = DelayHistogram()
    size = len(delays.snapshot())
    delays.note(seconds, 1000)
    assert len(delays.snapshot()) == size
    assert sum(delays.snapshot()) == 1000
    assert quantile_seconds(delays.snapshot(), 0.99) is not None


def test_a_batch_counts_for_each_of_its_publishes():
    delays = DelayHistogram()
    delays.note(0.001, 98)
    before = delays.snapshot()
    delays.note(1.0, 2)
    assert quantile_seconds(delays.snapshot(), 0.99) == pytest.approx(1.0)
    since = [new - old for old, new in zip(before, delays.snapshot(), strict=True)]
    assert quantile_seconds(since, 0.5) == pytest.approx(1.0)


@given(st.lists(st.integers(1, 1 << 40), max_size=50))
def test_a_size_is_counted_in_the_first_bucket_whose_bound_it_does_not_exceed(sizes):
    counted = SizeHistogram()
    for size in sizes:
        counted.note(size)
    assert counted.total == sum(sizes)
    expected = [0] * (len(SIZE_BOUNDS) + 1)
    for size in sizes:
        index = next((i for i, bound in enumerate(SIZE_BOUNDS) if size <= bound), len(SIZE_BOUNDS))
        expected[index] += 1
    assert counted.snapshot() == tuple(expected)
    more = with_singles(counted, 5)
    assert more.total == counted.total + 5
    assert more.snapshot() == (expected[0] + 5, *expected[1:])
