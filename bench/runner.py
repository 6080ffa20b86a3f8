"""What every scenario shares: its options, the interleaved runs, and where the results go."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs
import click
import msgspec

from bench import machine, report, show
from bench.errors import BenchError
from bench.report import Metric, Run
from bench.servers import SERVERS, Credentials, ServerSpec

_RESULTS = Path(__file__).parent / "results"


@attrs.frozen
class Series:
    """Which servers are run, how often and where; what the options of every scenario say."""

    server: str
    against: tuple[str, ...]
    repeats: int
    output: Path | None
    pins: machine.Pins


@attrs.frozen
class Scenario:
    """What is measured: its name, its parameters for the record, and its figures.

    `generator_share` and `others_share` name two of them that tell whether the rest may be believed: what
    the load generator used of its core, and what programs beside the benchmark used of the machine.
    """

    name: str
    title: str
    parameters: Mapping[str, object]
    metrics: Sequence[Metric]
    generator_share: str
    others_share: str


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


def run_series(
    series: Series, scenario: Scenario, credentials: Credentials, measure: Callable[[ServerSpec, int], Run]
) -> None:
    """Run `measure` for every server in turn, with the number of the repeat; print the figures and write them down.

    :raises BenchError: if a run cannot be made, or if deliveries of the server that is measured (not of
        those it is compared with) were wrong; the results are written all the same.
    """
    facts = machine.describe()
    specs = [SERVERS[name](credentials) for name in (series.server, *series.against)]
    _print(scenario.title, *show.machine_lines(facts, series.pins), "", show.run_header(scenario.metrics))
    runs: list[Run] = []
    for repeat in range(1, series.repeats + 1):
        for spec in specs:
            runs.append(measure(spec, repeat))
            _print(show.run_line(runs[-1], scenario.metrics))
    summary = report.summarise(runs, scenario.metrics)
    comparisons = report.compare(summary, scenario.metrics, server=series.server)
    _print("", *show.summary_lines(summary, scenario.metrics))
    _print(*show.comparison_lines(comparisons, scenario.metrics))
    _print(*show.warning_lines(runs, generator=scenario.generator_share, others=scenario.others_share))
    record = {
        "scenario": scenario.name,
        "parameters": scenario.parameters,
        "machine": facts,
        "pins": series.pins,
        "runs": runs,
        "summary": summary,
        "comparisons": comparisons,
    }
    _print(f"written to {_write(record, series.output, scenario.name)}")
    if not all(run.is_clean for run in runs if run.server == series.server):
        raise BenchError(f"{series.server} did not deliver as it should")


def _print(*lines: str) -> None:
    for line in lines:
        click.echo(line)


def _write(record: object, output: Path | None, scenario: str) -> Path:
    path = output or _RESULTS / f"{scenario}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")
    return path
