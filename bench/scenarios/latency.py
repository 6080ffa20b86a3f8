"""`latency`: how long deliveries take at half of what a server can do at most."""

import attrs
import click

from bench import machine, runner
from bench.load.generator import Load
from bench.report import Metric, Run
from bench.rig import Rig
from bench.scenarios.fanout import SHAPES, Shape
from bench.spec import ServerSpec

METRICS = (
    Metric("rate", "deliveries/s", decimals=0),
    Metric("latency_p50_ms", "p50 ms", better=-1, decimals=2),
    Metric("latency_p90_ms", "p90 ms", better=-1, decimals=2),
    Metric("latency_p99_ms", "p99 ms", better=-1, decimals=2),
    Metric("latency_max_ms", "max ms", better=-1, decimals=2),
    Metric("top_rate", "at most /s", better=1),
)
_TOP_SECONDS = 2.0


@attrs.frozen
class Latency:
    """Everything that one run of the scenario needs but the server."""

    rig: Rig
    shape: Shape
    load: Load

    def measure(self, spec: ServerSpec, repeat: int) -> Run:
        """Find the server's top rate, then drive a new one at half of it, and return what was counted.

        :raises BenchError: if the server does not start or a load does not come to a measurement.
        """
        crowd = self.shape.crowd
        hurried = attrs.evolve(
            self.load,
            in_flight=self.shape.in_flight,
            duration_seconds=min(_TOP_SECONDS, self.load.duration_seconds),
        )
        top = self.rig.measure(spec, crowd.seats(), hurried).delivered_per_second
        members = crowd.connections / crowd.rooms
        paced = attrs.evolve(self.load, rate=max(1, round(top / members / 2)))
        outcome = self.rig.measure(spec, crowd.seats(), paced)
        figures = {
            "rate": outcome.delivered_per_second,
            "latency_p50_ms": outcome.latency_ms(0.50),
            "latency_p90_ms": outcome.latency_ms(0.90),
            "latency_p99_ms": outcome.latency_ms(0.99),
            "latency_max_ms": outcome.latency_ms(1.0),
            "top_rate": top,
        }
        return outcome.run(spec, repeat, figures)


def scenario_of(name: str, shape: Shape, load: Load) -> runner.Scenario:
    """Return the scenario with this load."""
    return runner.Scenario(
        name=f"latency-{name}",
        title=(
            f"latency-{name}: {shape.crowd.connections} connections in {shape.crowd.rooms} rooms, half of the "
            f"server's own top rate, found with {shape.in_flight} in flight; {load.duration_seconds:g} s measured"
        ),
        parameters={"shape": shape, "load": load},
        metrics=METRICS,
        prepare=lambda rig: Latency(rig, shape, load).measure,
    )


@click.command()
@click.option(
    "--shape", type=click.Choice(list(SHAPES)), default="f1", show_default=True, help="As of fanout."
)
@click.option("--connections", type=click.IntRange(1, 100_000), help="Instead of the shape's.")
@runner.time_options()
@runner.series_options()
def latency(
    *, series: runner.Series, shape: str, connections: int | None, duration: float, warm_up: float
) -> None:
    """Measure latency at half of each server's own top rate.

    Messages are sent when they are due, whatever the server does, and a latency counts from then.
    """
    known = SHAPES[shape]
    crowd = attrs.evolve(known.crowd, connections=connections or known.crowd.connections)
    if crowd.rooms > crowd.connections:
        raise click.BadParameter("there are fewer connections than rooms", param_hint="--connections")
    machine.check_connections(crowd.connections)
    load = Load(warm_up_seconds=warm_up, duration_seconds=duration)
    runner.run_alone(series, scenario_of(shape, attrs.evolve(known, crowd=crowd), load))
