"""`echo`: how many pings a second a server answers."""

import attrs
import click

from bench import machine, runner
from bench.load.generator import Load
from bench.load.plan import Role, Seat
from bench.report import Metric, Run
from bench.rig import Rig
from bench.spec import ServerSpec

METRICS = (
    Metric("pongs_per_second", "pongs/s", better=1),
    Metric("pongs_per_cpu_second", "per server CPU-s", better=1),
    Metric("latency_p50_ms", "p50 ms", better=-1, decimals=2),
    Metric("latency_p99_ms", "p99 ms", better=-1, decimals=2),
    Metric("latency_max_ms", "max ms", better=-1, decimals=2),
)


@attrs.frozen
class Echo:
    """Everything that one run of the scenario needs but the server."""

    rig: Rig
    connections: int
    load: Load

    def measure(self, spec: ServerSpec, repeat: int) -> Run:
        """Start the server, load it, and return what was counted.

        :raises BenchError: if the server does not start or the load does not come to a measurement.
        """
        seats = [Seat(room, Role.PING) for room in range(self.connections)]
        outcome = self.rig.measure(spec, seats, self.load)
        figures = {
            "pongs_per_second": outcome.delivered_per_second,
            "pongs_per_cpu_second": outcome.delivered_per_cpu_second,
            "latency_p50_ms": outcome.latency_ms(0.50),
            "latency_p99_ms": outcome.latency_ms(0.99),
            "latency_max_ms": outcome.latency_ms(1.0),
        }
        return outcome.run(spec, repeat, figures)


def scenario_of(connections: int, load: Load) -> runner.Scenario:
    """Return the scenario with this load."""
    return runner.Scenario(
        name="echo",
        title=(
            f"echo: {connections} connections, each in a room of its own with {load.in_flight} pings in flight; "
            f"{load.warm_up_seconds:g} s warm-up, {load.duration_seconds:g} s measured"
        ),
        parameters={"connections": connections, "load": load},
        metrics=METRICS,
        prepare=lambda rig: Echo(rig, connections, load).measure,
    )


@click.command()
@click.option("--connections", type=click.IntRange(1, 100_000), default=50, show_default=True)
@click.option(
    "--in-flight",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="Pings that each connection sends before one must have been answered.",
)
@runner.time_options()
@runner.series_options()
def echo(*, series: runner.Series, connections: int, in_flight: int, duration: float, warm_up: float) -> None:
    """Count answers to pings on connections that never pause: what a message costs that concerns nobody else."""
    machine.check_connections(connections)
    load = Load(in_flight=in_flight, warm_up_seconds=warm_up, duration_seconds=duration)
    runner.run_alone(series, scenario_of(connections, load))
