"""The parts that all scenarios share: options, interleaved runs, and the files of results."""

import functools
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs
import click
import msgspec

from bench import machine, report, show
from bench.errors import BenchError
from bench.report import Metric, Run, Spread
from bench.rig import Rig, rigged
from bench.servers import SERVERS
from bench.spec import ServerSpec
from bench.usage import GENERATOR_SHARE, OTHERS_SHARE, SHARES

RESULTS = Path(__file__).parent / "results"


@attrs.frozen
class Series:
    """Which servers are run, how often and where; what the options of every scenario say."""

    server: str
    against: tuple[str, ...]
    repeats: int
    output: Path | None
    pins: machine.Pins
    until: float | None = None
    """On the monotonic clock, in seconds: no repeat but the first begins later."""

    def is_late(self) -> bool:
        """Whether there is no time left for another repeat."""
        return self.until is not None and time.monotonic() > self.until


@attrs.frozen
class Scenario:
    """One measurement: its name, its parameters for the record, its figures, and how they are made.

    `prepare` gets the rig and returns a function that makes one run of a server, given the number of the repeat; it
    raises BenchError if the run cannot be made. `servers` are those that it can be made with. The figures of
    `usage.SHARES` are in every run and need not stand in `metrics`.
    """

    name: str
    title: str
    parameters: Mapping[str, object]
    metrics: Sequence[Metric]
    prepare: Callable[[Rig], Callable[[ServerSpec, int], Run]]
    servers: Collection[str] = tuple(SERVERS)


@attrs.frozen
class Finished:
    """The record of a series, and whether the measured server delivered all that it should."""

    record: Mapping[str, object]
    summary: Mapping[str, Mapping[str, Spread]]
    is_clean: bool


def time_options(
    *, duration: float = 5.0, warm_up: float = 1.0
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return what adds how long a load is driven, as `duration` and `warm_up`, with these defaults."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for name, low, default in (("--warm-up", 0, warm_up), ("--duration", 0.1, duration)):
            option = click.option(
                name, type=click.FloatRange(low, 600), default=default, show_default=True, help="Seconds."
            )
            command = option(command)
        return command

    return add


def series_options(
    *, servers: Iterable[str] = SERVERS, against: tuple[str, ...] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return what adds the options of every scenario to a command, which is given them as one `series`.

    `servers` are those that can be measured, `against` those compared with when nothing is said.
    The command raises BenchError if the machine has too few cores.
    """
    names = click.Choice(sorted(servers))
    options = (
        click.option(
            "--server", type=names, default="greenroom", show_default=True, help="What is measured."
        ),
        click.option(
            "--against",
            type=names,
            multiple=True,
            default=against,
            show_default=bool(against),
            help="What it is compared with, run in turn.",
        ),
        click.option(
            "--repeats", type=click.IntRange(1, 100), default=3, show_default=True, help="Runs of each."
        ),
        click.option(
            "--output",
            type=click.Path(dir_okay=False),
            help="JSON file for the results.  [default: bench/results/SCENARIO-TIME.json]",
        ),
        click.option("--pin/--no-pin", default=True, help="Give server and load generator a core each."),
    )

    def add(command: Callable[..., None]) -> Callable[..., None]:
        with_options = _with_series(command)
        for option in reversed(options):
            with_options = option(with_options)
        return with_options

    return add


def _with_series(command: Callable[..., None]) -> Callable[..., None]:
    """Gather what the options say."""

    @functools.wraps(command)
    def with_series(
        *, server: str, against: tuple[str, ...], repeats: int, output: str | None, pin: bool, **own: object
    ) -> None:
        others = tuple(dict.fromkeys(name for name in against if name != server))
        series = Series(
            server=server,
            against=others,
            repeats=repeats,
            output=None if output is None else Path(output),
            pins=machine.choose_pins(pin=pin),
        )
        command(series=series, **own)

    return with_series


def run_alone(series: Series, scenario: Scenario) -> None:
    """Run one scenario: print the figures and write them down.

    :raises BenchError: if a run of the server that is measured cannot be made, or if its deliveries were
        wrong; the results are written all the same. One it is compared with is left out if it cannot be run.
    """
    with rigged(series.pins) as rig:
        if not run_series(series, scenario, rig).is_clean:
            raise BenchError(f"{series.server} did not deliver as it should")


def run_series(series: Series, scenario: Scenario, rig: Rig) -> Finished:
    """As `run_alone`, on a rig that there is already; wrong deliveries are told, not raised."""
    facts, metrics = machine.describe(), (*scenario.metrics, *SHARES)
    specs = [SERVERS[name](rig.credentials) for name in (series.server, *series.against)]
    measure = scenario.prepare(rig)
    _print(scenario.title, *show.machine_lines(facts, series.pins), "", show.run_header(metrics))
    runs: list[Run] = []
    for repeat in range(1, series.repeats + 1):
        if runs and series.is_late():
            _print(f"stopped after {repeat - 1} runs of each: no time is left")
            break
        for spec in list(specs):
            try:
                runs.append(measure(spec, repeat))
            except BenchError as error:
                if spec.name == series.server:
                    raise
                specs.remove(spec)
                _print(f"{spec.name} is left out: {error}")
            else:
                _print(show.run_line(runs[-1], metrics))
    summary = report.summarise(runs, metrics)
    comparisons = report.compare(summary, metrics, server=series.server)
    _print("", *show.summary_lines(summary, metrics))
    _print(*show.comparison_lines(comparisons, metrics))
    _print(*show.warning_lines(runs, generator=GENERATOR_SHARE, others=OTHERS_SHARE))
    record: dict[str, object] = {
        "scenario": scenario.name,
        "title": scenario.title,
        "parameters": scenario.parameters,
        "machine": facts,
        "pins": series.pins,
        "metrics": metrics,
        "runs": runs,
        "summary": summary,
        "comparisons": comparisons,
    }
    _print(f"written to {write_record(record, series.output, scenario.name)}")
    return Finished(record, summary, all(run.is_clean for run in runs if run.server == series.server))


def _print(*lines: str) -> None:
    for line in lines:
        click.echo(line)


def write_record(record: object, output: Path | None, name: str) -> Path:
    """Write what is to be kept as JSON, if nothing is said to bench/results, and return where it is."""
    path = output or RESULTS / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")
    return path
