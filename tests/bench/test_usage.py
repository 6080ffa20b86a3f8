"""The CPU time and memory of a measured period."""

import os

from hypothesis import given
from hypothesis import strategies as st

from bench.load.api import parse_metrics
from bench.report import quantile
from bench.usage import latency_buckets, on_core


@given(st.lists(st.integers(0, 10**12), min_size=1))
def test_buckets_hold_every_latency_to_two_percent(latencies_ns: list[int]) -> None:
    buckets = latency_buckets(latencies_ns)
    assert sum(count for _, count in buckets) == len(latencies_ns)
    assert buckets == sorted(buckets)
    highest = max(latencies_ns)
    assert highest <= quantile(buckets, 1.0) <= highest * 1.02


def test_the_load_is_kept_on_its_core_and_let_go() -> None:
    before = os.sched_getaffinity(0)
    with on_core(min(before)):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_metrics_without_labels_of_their_own_are_added_up_over_the_workers() -> None:
    page = (
        "# HELP a_total What\n# TYPE a_total counter\n"
        'a_total{node="x",worker="0"} 2.0\na_total{node="x",worker="1"} 1e+00\nb{node="x",of="x",worker="0"} 1.0\n'
    )
    assert parse_metrics(page) == {"a_total": 3.0}
