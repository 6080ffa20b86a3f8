"""`connect`: how soon many connections are in their rooms, and what each of them then costs while it rests."""

import attrs
import click

from bench import machine, runner
from bench.load.generator import Load
from bench.load.plan import Crowd
from bench.report import Metric, Run
from bench.rig import Rig
from bench.spec import ServerSpec

METRICS = (
    Metric("joins_per_second", "joins/s", better=1),
    Metric("joins_per_cpu_second", "per server CPU-s", better=1),
    Metric("join_p50_ms", "p50 ms", better=-1, decimals=1),
    Metric("join_p99_ms", "p99 ms", better=-1, decimals=1),
    Metric("memory_per_member_kib", "KiB/member", better=-1, decimals=1),
    Metric("memory_mib", "memory MiB", decimals=1),
)


@attrs.frozen
class Connect:
    """Everything that one run of the scenario needs but the server."""

    rig: Rig
    crowd: Crowd
    load: Load

    def measure(self, spec: ServerSpec, repeat: int) -> Run:
        """Start the server, connect to it, and return what was counted.

        :raises BenchError: if the server does not start or not everyone comes to a room.
        """
        outcome = self.rig.measure(spec, self.crowd.seats(), self.load)
        figures = {
            "joins_per_second": outcome.delivered_per_second,
            "joins_per_cpu_second": outcome.delivered_per_cpu_second,
            "join_p50_ms": outcome.latency_ms(0.50),
            "join_p99_ms": outcome.latency_ms(0.99),
            "memory_per_member_kib": (outcome.after_bytes - outcome.before_bytes)
            / self.crowd.connections
            / 1024,
            "memory_mib": outcome.after_bytes / 2**20,
        }
        return outcome.run(spec, repeat, figures)


def load_of(*, connecting: int, rest_seconds: float) -> Load:
    """Return the load: `connecting` handshakes at once, then a rest."""
    return Load(connect_only=True, connecting=connecting, duration_seconds=rest_seconds, connect_seconds=120)


def scenario_of(crowd: Crowd, load: Load) -> runner.Scenario:
    """Return the scenario with this load."""
    return runner.Scenario(
        name="connect",
        title=(
            f"connect: {crowd.connections} connections join {crowd.rooms} rooms, {load.connecting} at once; "
            f"memory after {load.duration_seconds:g} s of rest"
        ),
        parameters={"crowd": crowd, "load": load},
        metrics=METRICS,
        prepare=lambda rig: Connect(rig, crowd, load).measure,
    )


@click.command()
@click.option("--connections", type=click.IntRange(1, 100_000), default=5000, show_default=True)
@click.option("--rooms", type=click.IntRange(1, 100_000), default=500, show_default=True)
@click.option(
    "--connecting", type=click.IntRange(1, 1000), default=64, show_default=True, help="Handshakes at once."
)
@click.option("--rest", type=click.FloatRange(0.1, 60), default=1.5, show_default=True, help="Seconds.")
@runner.series_options()
def connect(*, series: runner.Series, connections: int, rooms: int, connecting: int, rest: float) -> None:
    """Measure how soon connections are in their rooms, and the server's memory for each once they rest.

    A connection has joined when the server tells it so; it then listens. Every server tells everyone in a
    room who comes, so a room of N takes N (N + 1) / 2 messages to fill.
    """
    if rooms > connections:
        raise click.BadParameter("there are more rooms than connections", param_hint="--rooms")
    machine.check_connections(connections)
    load = load_of(connecting=connecting, rest_seconds=rest)
    runner.run_alone(series, scenario_of(Crowd(connections, rooms, 0), load))
