"""`tls`: what TLS on the port costs, beside the same server without it."""

from collections.abc import Iterator
from pathlib import Path

import attrs
import click

from bench import machine, runner
from bench.errors import BenchError
from bench.load.generator import Load
from bench.load.plan import Crowd
from bench.rig import rigged
from bench.scenarios import echo, fanout

_PLAIN, _SECURED = "greenroom", "greenroom_tls"
_LOADS = (*fanout.SHAPES, "echo")
_PINGERS = 50


@attrs.frozen
class _Part:
    """A load by its name, and the figure by which TLS is judged."""

    name: str
    scenario: runner.Scenario
    figure: str


@click.command()
@click.option(
    "--load",
    "names",
    type=click.Choice(_LOADS),
    multiple=True,
    default=_LOADS,
    show_default=True,
    help="The shapes of fanout, and pings.",
)
@click.option(
    "--connections", type=click.IntRange(2, 100_000), help="Instead of those of fanout's shapes and of echo."
)
@click.option("--repeats", type=click.IntRange(1, 100), default=3, show_default=True, help="Runs of each.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for the results.  [default: bench/results]",
)
@click.option("--pin/--no-pin", default=True, help="Give server and load generator a core each.")
@runner.time_options(duration=3.0)
def tls(
    *,
    names: tuple[str, ...],
    connections: int | None,
    repeats: int,
    output: Path | None,
    pin: bool,
    duration: float,
    warm_up: float,
) -> None:
    """Compare a server that speaks TLS with one that does not, under the same loads in turn.

    The last lines tell what a second of the server's CPU does with TLS for each that it does in clear text. The
    load generator must be compiled with OpenSSL (libssl-dev).
    """
    machine.check_connections(connections or max(shape.crowd.connections for shape in fanout.SHAPES.values()))
    pins, ratios = machine.choose_pins(pin=pin), []
    with rigged(pins) as rig:
        for part in _parts(names, connections, Load(warm_up_seconds=warm_up, duration_seconds=duration)):
            results = None if output is None else output / f"{part.name}.json"
            series = runner.Series(_SECURED, (_PLAIN,), repeats, results, pins)
            finished = runner.run_series(series, part.scenario, rig)
            if not finished.is_clean:
                raise BenchError(f"{_SECURED} did not deliver as it should")
            if _PLAIN not in finished.summary:
                raise BenchError(f"there is nothing to compare {_SECURED} with")
            secured, plain = (finished.summary[name][part.figure] for name in (_SECURED, _PLAIN))
            ratios.append(f"{part.name}: {secured.median / plain.median:.2f}")
            click.echo()
    click.echo("per server CPU-second, TLS for 1 in clear text:")
    click.echo("\n".join(ratios))


def _parts(names: tuple[str, ...], connections: int | None, load: Load) -> Iterator[_Part]:
    for name, shape in fanout.SHAPES.items():
        if name in names:
            count = connections or shape.crowd.connections
            crowd = Crowd(count, min(shape.crowd.rooms, count // 2), 1)
            paced = attrs.evolve(load, in_flight=shape.in_flight)
            scenario = fanout.scenario_of(f"tls-{name}", crowd, paced)
            yield _Part(name, scenario, "deliveries_per_cpu_second")
    if "echo" in names:
        scenario = echo.scenario_of(connections or _PINGERS, attrs.evolve(load, in_flight=1))
        yield _Part("echo", scenario, "pongs_per_cpu_second")
