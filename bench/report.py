"""Figures from many runs: medians with their spread, ratios, and when a difference may be called one. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from statistics import median

import attrs

_FEWEST_RUNS = 2
"""One run has no spread, so nothing can be said of the noise."""


@attrs.frozen
class Metric:
    """One figure of a run: how it is called, written, and which way is better.

    `better` is 1 where more is better, -1 where less is, 0 where it is told but not judged.
    """

    name: str
    title: str
    better: int = 0
    decimals: int = 0

    def show(self, value: float) -> str:
        """Return `value` as a table holds it."""
        return f"{value:,.{self.decimals}f}"


@attrs.frozen
class Run:
    """One run of one server. `faults` are the wrong things that were counted, by name, all 0 in a good run.

    `latency_ns` holds pairs of the highest nanoseconds in a bucket and its count, rising.
    """

    server: str
    repeat: int
    load_average: float
    figures: Mapping[str, float]
    faults: Mapping[str, int]
    latency_ns: Sequence[tuple[int, int]] = ()

    @property
    def is_clean(self) -> bool:
        """Whether nothing went wrong."""
        return not any(self.faults.values())


@attrs.frozen
class Spread:
    """The middle of the runs, and how far they went to either side."""

    median: float
    low: float
    high: float
    runs: int


class Verdict(StrEnum):
    """The comparison of two servers, as far as the runs allow one."""

    BETTER = "better"
    WORSE = "worse"
    NOISE = "inside the noise"
    TOO_FEW = "too few runs to say"


@attrs.frozen
class Comparison:
    """One metric of `server` beside that of `against`.

    `ratio` is of the medians; `low` and `high` are what it would be if all noise were for or against it.
    They are None where something would be divided by 0.
    """

    metric: str
    server: str
    against: str
    ratio: float | None
    low: float | None
    high: float | None
    verdict: Verdict


def spread(values: Iterable[float]) -> Spread:
    """Return the spread of at least one value."""
    known = sorted(values)
    return Spread(median=median(known), low=known[0], high=known[-1], runs=len(known))


def judge(ours: Spread, theirs: Spread, *, better: int) -> Verdict:
    """Say which is better, if every run of the one is better than every run of the other."""
    if min(ours.runs, theirs.runs) < _FEWEST_RUNS:
        return Verdict.TOO_FEW
    if ours.low > theirs.high:
        return Verdict.BETTER if better > 0 else Verdict.WORSE
    if ours.high < theirs.low:
        return Verdict.WORSE if better > 0 else Verdict.BETTER
    return Verdict.NOISE


def summarise(runs: Iterable[Run], metrics: Sequence[Metric]) -> dict[str, dict[str, Spread]]:
    """Return each server's spread of each metric, servers in the order they first ran."""
    by_server: dict[str, list[Run]] = {}
    for run in runs:
        by_server.setdefault(run.server, []).append(run)
    return {
        server: {metric.name: spread(run.figures[metric.name] for run in own) for metric in metrics}
        for server, own in by_server.items()
    }


def compare(
    summary: Mapping[str, Mapping[str, Spread]], metrics: Sequence[Metric], *, server: str
) -> list[Comparison]:
    """Set `server` beside each of the others, in every metric that has a better side."""
    return [
        _compare_one(metric, server, summary[server][metric.name], other, theirs[metric.name])
        for other, theirs in summary.items()
        if other != server
        for metric in metrics
        if metric.better
    ]


def _compare_one(metric: Metric, server: str, ours: Spread, against: str, theirs: Spread) -> Comparison:
    return Comparison(
        metric=metric.name,
        server=server,
        against=against,
        ratio=_ratio(ours.median, theirs.median),
        low=_ratio(ours.low, theirs.high),
        high=_ratio(ours.high, theirs.low),
        verdict=judge(ours, theirs, better=metric.better),
    )


def _ratio(ours: float, theirs: float) -> float | None:
    return ours / theirs if theirs else None


def quantile(buckets: Sequence[tuple[int, int]], share: float) -> int:
    """Return the value that `share` (above 0, at most 1) of all counted ones do not exceed, 0 of none.

    `buckets` are pairs of a highest value and its count, rising; the answer is the highest value of the
    bucket in which the quantile lies.
    """
    wanted = math.ceil(share * sum(count for _, count in buckets))
    for highest, count in buckets:
        wanted -= count
        if wanted <= 0:
            return highest
    return 0
