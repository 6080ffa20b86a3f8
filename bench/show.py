"""The results as text, for a terminal."""

from collections.abc import Iterator, Mapping, Sequence

from bench.machine import Machine, Pins
from bench.report import Comparison, Metric, Run, Spread

BUSY_GENERATOR_SHARE = 0.85
"""Above this share of its core the load generator may be what is measured."""


NOISY_OTHERS_SHARE = 0.05
"""Above this share of all cores other programs take time from server and generator."""


def machine_lines(machine: Machine, pins: Pins) -> Iterator[str]:
    """Yield what ran where."""
    yield (
        f"{machine.date}, {machine.cores} cores ({machine.processor}), Linux {machine.kernel}, "
        f"Python {machine.python}, load average {machine.load_average:.2f}"
    )
    if pins.server is None:
        yield "nothing is pinned: server and load generator may share a core"
    else:
        yield f"the server has core {pins.server}, the load generator core {pins.generator}"


def run_header(metrics: Sequence[Metric]) -> str:
    """Return the line above those of `run_line`."""
    return _row("run", "server", [metric.title for metric in metrics], metrics) + "  faults"


def run_line(run: Run, metrics: Sequence[Metric]) -> str:
    """Return one run as a line."""
    values = [metric.show(run.figures[metric.name]) for metric in metrics]
    return _row(str(run.repeat), run.server, values, metrics) + "  " + _faults(run)


def _row(first: str, server: str, cells: Sequence[str], metrics: Sequence[Metric]) -> str:
    padded = (cell.rjust(max(len(metric.title), 9)) for cell, metric in zip(cells, metrics, strict=True))
    return f"{first:>3}  {server:<26}" + "  ".join(padded)


def _faults(run: Run) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in run.faults.items() if count) or "none"


def summary_lines(summary: Mapping[str, Mapping[str, Spread]], metrics: Sequence[Metric]) -> Iterator[str]:
    """Yield each server's medians, with the lowest and the highest run."""
    yield "median (lowest to highest run)"
    for server, spreads in summary.items():
        yield f"  {server}"
        for metric in metrics:
            known = spreads[metric.name]
            low, high = metric.show(known.low), metric.show(known.high)
            yield f"    {metric.title:<20} {metric.show(known.median):>12}  ({low} to {high})"


def comparison_lines(comparisons: Sequence[Comparison], metrics: Sequence[Metric]) -> Iterator[str]:
    """Yield the ratios, and what may be said of them."""
    titles = {metric.name: metric.title for metric in metrics}
    against = None
    for comparison in comparisons:
        if comparison.against != against:
            against = comparison.against
            yield f"{comparison.server} / {against}: ratio of medians (what the noise allows)"
        if comparison.ratio is None or comparison.low is None or comparison.high is None:
            ratio = "none"
        else:
            ratio = f"{comparison.ratio:.2f}  ({comparison.low:.2f} to {comparison.high:.2f})"
        yield f"    {titles[comparison.metric]:<20} {ratio:<26} {comparison.verdict}"


def warning_lines(runs: Sequence[Run], *, generator: str, others: str) -> Iterator[str]:
    """Yield why figures should not be believed.

    `generator` and `others` name the figures that hold the CPU share of the load generator and of programs
    that do not belong to the benchmark.
    """
    for run in runs:
        which = f"run {run.repeat} of {run.server}"
        if run.figures[generator] > BUSY_GENERATOR_SHARE:
            share = run.figures[generator]
            yield f"{which}: the load generator used {share:.0%} of its core, and may be what was measured"
        if run.figures[others] > NOISY_OTHERS_SHARE:
            share = run.figures[others]
            yield f"{which}: other programs used {share:.0%} of the machine; believe CPU-second figures more than others"
        if not run.is_clean:
            yield f"{which} was not delivered as it should be: {_faults(run)}"
