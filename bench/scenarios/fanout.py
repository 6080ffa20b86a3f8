"""`fanout`: how many deliveries a second a server makes when rooms are spoken in without pause."""

from collections.abc import Mapping
from types import MappingProxyType

import attrs
import click

from bench import machine, runner
from bench.load.generator import Load
from bench.load.plan import Crowd
from bench.report import Metric, Run
from bench.rig import Rig
from bench.spec import ServerSpec

METRICS = (
    Metric("deliveries_per_second", "deliveries/s", better=1),
    Metric("deliveries_per_cpu_second", "per server CPU-s", better=1),
    Metric("latency_p50_ms", "p50 ms", better=-1, decimals=2),
    Metric("latency_p90_ms", "p90 ms", better=-1, decimals=2),
    Metric("latency_p99_ms", "p99 ms", better=-1, decimals=2),
    Metric("latency_max_ms", "max ms", better=-1, decimals=2),
    Metric("peak_memory_mib", "memory MiB", better=-1, decimals=1),
    Metric("redis_us", "Redis µs per message", better=-1, decimals=1),
)


@attrs.frozen
class Shape:
    """The sizes of the rooms, and the messages that each publisher keeps in flight."""

    crowd: Crowd
    in_flight: int


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "f1": Shape(Crowd(1000, 1, 1), 8),
        "f1-one": Shape(Crowd(1000, 1, 1), 1),
        "f2": Shape(Crowd(1000, 100, 1), 1),
        "f3": Shape(Crowd(1000, 500, 1), 1),
    }
)
"""One room of 1,000 with 8 in flight, or 1; 100 rooms of 10; 500 rooms of 2."""


@attrs.frozen
class Fanout:
    """Everything that one run of the scenario needs but the server."""

    rig: Rig
    crowd: Crowd
    load: Load

    def measure(self, spec: ServerSpec, repeat: int) -> Run:
        """Start the server, load it, and return what was counted.

        :raises BenchError: if the server does not start or the load does not come to a measurement.
        """
        outcome = self.rig.measure(spec, self.crowd.seats(), self.load)
        figures = {
            "deliveries_per_second": outcome.delivered_per_second,
            "deliveries_per_cpu_second": outcome.delivered_per_cpu_second,
            "latency_p50_ms": outcome.latency_ms(0.50),
            "latency_p90_ms": outcome.latency_ms(0.90),
            "latency_p99_ms": outcome.latency_ms(0.99),
            "latency_max_ms": outcome.latency_ms(1.0),
            "peak_memory_mib": outcome.peak_bytes / 2**20,
            "redis_us": outcome.redis_us_per_message,
        }
        return outcome.run(spec, repeat, figures)


def scenario_of(name: str, crowd: Crowd, load: Load) -> runner.Scenario:
    """Return the scenario with this load."""
    return runner.Scenario(
        name=name,
        title=_title(name, crowd, load),
        parameters={"crowd": crowd, "load": load},
        metrics=METRICS,
        prepare=lambda rig: Fanout(rig, crowd, load).measure,
    )


def _title(name: str, crowd: Crowd, load: Load) -> str:
    fewest, most = crowd.members
    members = f"{most}" if fewest == most else f"{fewest} to {most}"
    return (
        f"{name}: {crowd.connections} connections, rooms: {crowd.rooms} of {members} members, in each "
        f"{crowd.publishers} publishing; {load.in_flight} messages of {load.message_bytes} bytes in flight; "
        f"{load.warm_up_seconds:g} s warm-up, {load.duration_seconds:g} s measured"
    )


@click.command()
@click.option(
    "--shape",
    type=click.Choice(list(SHAPES)),
    default="f1",
    show_default=True,
    help="One room of 1,000 with 8 in flight, or 1; 100 rooms of 10; 500 rooms of 2. "
    "The next three options change it.",
)
@click.option("--connections", type=click.IntRange(1, 100_000))
@click.option("--rooms", type=click.IntRange(1, 100_000))
@click.option(
    "--in-flight",
    type=click.IntRange(1, 10_000),
    help="Messages that each publisher sends before one of its own must have come back.",
)
@click.option(
    "--publishers", type=click.IntRange(1, 1000), default=1, show_default=True, help="In each room."
)
@click.option(
    "--message-bytes",
    # Longer chats are cut by the servers (PROTOCOL: 500 characters); shorter ones do not hold their number.
    type=click.IntRange(43, 500),
    default=64,
    show_default=True,
    help="Of the text alone.",
)
@runner.time_options()
@runner.series_options()
def fanout(
    *,
    series: runner.Series,
    shape: str,
    connections: int | None,
    rooms: int | None,
    in_flight: int | None,
    publishers: int,
    message_bytes: int,
    duration: float,
    warm_up: float,
) -> None:
    """Count deliveries to rooms whose publishers never pause.

    The loop is closed: a publisher's own message coming back lets it send the next one, so latency grows
    with what is in flight. Figures per CPU-second suffer least from programs that run beside the benchmark.
    """
    known = SHAPES[shape]
    crowd = Crowd(connections or known.crowd.connections, rooms or known.crowd.rooms, publishers)
    if crowd.rooms > crowd.connections:
        raise click.BadParameter("there are more rooms than connections", param_hint="--rooms")
    machine.check_connections(crowd.connections)
    load = Load(
        message_bytes=message_bytes,
        in_flight=in_flight or known.in_flight,
        warm_up_seconds=warm_up,
        duration_seconds=duration,
    )
    as_known = Shape(crowd, load.in_flight) == known
    runner.run_alone(series, scenario_of(f"fanout-{shape}" if as_known else "fanout", crowd, load))
