"""The figures: medians, ratios, quantiles, and when a winner may be called."""

from bisect import bisect_left
from itertools import groupby
from statistics import median

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.report import Metric, Run, Verdict, compare, judge, quantile, spread, summarise

VALUES = st.lists(st.floats(min_value=0.001, max_value=1e9), min_size=1, max_size=9)
SEVERAL = VALUES.filter(lambda values: len(values) > 1)
RATE = Metric("rate", "rate", better=1)
LATENCY = Metric("latency", "latency", better=-1)


def run_of(server: str, rate: float) -> Run:
    return Run(
        server=server,
        repeat=1,
        load_average=0.0,
        figures={"rate": rate, "latency": 1000 / rate},
        faults={"lost": 0, "duplicated": 0},
    )


@given(VALUES)
def test_a_spread_holds_every_value_and_its_median(values: list[float]) -> None:
    known = spread(values)
    assert all(known.low <= value <= known.high for value in values)
    assert {known.low, known.high} <= set(values)
    assert known.median == median(values)
    assert known.runs == len(values)


@given(SEVERAL, SEVERAL)
def test_a_winner_is_called_only_when_every_run_beats_every_other(
    ours: list[float], theirs: list[float]
) -> None:
    verdict = judge(spread(ours), spread(theirs), better=1)
    assert (verdict is Verdict.BETTER) == all(mine > other for mine in ours for other in theirs)
    assert (verdict is Verdict.WORSE) == all(mine < other for mine in ours for other in theirs)


@given(SEVERAL, SEVERAL)
def test_the_other_side_sees_the_opposite(ours: list[float], theirs: list[float]) -> None:
    opposite = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER, Verdict.NOISE: Verdict.NOISE}
    verdict = judge(spread(ours), spread(theirs), better=1)
    assert judge(spread(theirs), spread(ours), better=1) is opposite[verdict]
    assert judge(spread(ours), spread(theirs), better=-1) is opposite[verdict]


def test_touching_spreads_are_inside_the_noise() -> None:
    assert judge(spread([1.0, 2.0]), spread([2.0, 3.0]), better=1) is Verdict.NOISE


@given(VALUES, st.floats(min_value=0.001, max_value=1e9))
def test_a_single_run_decides_nothing(values: list[float], single: float) -> None:
    assert judge(spread(values), spread([single]), better=1) is Verdict.TOO_FEW
    assert judge(spread([single]), spread(values), better=1) is Verdict.TOO_FEW


def test_a_comparison_gives_the_ratio_of_medians_and_what_noise_allows() -> None:
    rates = {"ours": [100.0, 400.0, 200.0], "theirs": [10.0, 20.0, 50.0]}
    runs = [run_of(server, rate) for server, values in rates.items() for rate in values]
    rate, latency = compare(
        summarise(runs, [RATE, LATENCY]), [RATE, LATENCY, Metric("rate", "told only")], server="ours"
    )
    assert (rate.ratio, rate.low, rate.high) == (10.0, 2.0, 40.0)
    assert (rate.server, rate.against, rate.verdict) == ("ours", "theirs", Verdict.BETTER)
    assert latency.ratio == pytest.approx(0.1)
    assert latency.verdict is Verdict.BETTER


def test_nothing_is_divided_by_zero() -> None:
    runs = [attrs.evolve(run_of(server, 1.0), figures={"rate": 0.0}) for server in ("ours", "theirs")]
    [comparison] = compare(summarise(runs, [RATE]), [RATE], server="ours")
    assert (comparison.ratio, comparison.low, comparison.high) == (None, None, None)


@given(st.lists(st.integers(0, 50), min_size=1), st.floats(min_value=0.001, max_value=1.0))
def test_a_quantile_is_the_first_value_that_enough_do_not_exceed(values: list[int], share: float) -> None:
    buckets = [(value, len(list(group))) for value, group in groupby(sorted(values))]
    answer = quantile(buckets, share)
    assert sum(value <= answer for value in values) >= share * len(values)
    at = bisect_left(sorted(values), answer)
    assert at < share * len(values)


def test_the_quantile_of_nothing_is_zero() -> None:
    assert quantile([], 0.5) == 0


def test_a_run_with_any_fault_is_not_clean() -> None:
    run = run_of("ours", 1.0)
    assert run.is_clean
    assert not attrs.evolve(run, faults={"lost": 0, "duplicated": 1}).is_clean
