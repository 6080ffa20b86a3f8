"""`stalled`: what everyone else feels of some who stop reading."""

import attrs
import click

from bench import machine, runner
from bench.load.generator import Load
from bench.load.plan import Role, Seat
from bench.report import Metric, Run
from bench.rig import Outcome, Rig
from bench.spec import ServerSpec
from bench.usage import worst_shares

METRICS = (
    Metric("alone_per_second", "without: deliveries/s"),
    Metric("deliveries_per_second", "with: deliveries/s", better=1),
    Metric("kept_share", "kept", better=1, decimals=2),
    Metric("alone_p99_ms", "without: p99 ms", decimals=1),
    Metric("latency_p99_ms", "with: p99 ms", better=-1, decimals=1),
    Metric("latency_max_ms", "with: max ms", better=-1, decimals=1),
    Metric("alone_memory_mib", "without: MiB", decimals=1),
    Metric("peak_memory_mib", "with: MiB", better=-1, decimals=1),
)


@attrs.frozen
class Stalled:
    """Everything that one run of the scenario needs but the server."""

    rig: Rig
    members: int
    stalled: int
    load: Load

    def measure(self, spec: ServerSpec, repeat: int) -> Run:
        """Load one server where all read and one where some do not, and return what the others got.

        :raises BenchError: if the server does not start or a load does not come to a measurement.
        """
        alone = self._outcome(spec, 0)
        held = self._outcome(spec, self.stalled)
        # There are fewer of those that read, too.
        reading_share = 1 - self.stalled / self.members
        run = held.run(spec, repeat, {})
        figures = {
            "alone_per_second": alone.delivered_per_second,
            "deliveries_per_second": held.delivered_per_second,
            "kept_share": held.delivered_per_second / (alone.delivered_per_second * reading_share),
            "alone_p99_ms": alone.latency_ms(0.99),
            "latency_p99_ms": held.latency_ms(0.99),
            "latency_max_ms": held.latency_ms(1.0),
            "alone_memory_mib": alone.peak_bytes / 2**20,
            "peak_memory_mib": held.peak_bytes / 2**20,
        }
        return attrs.evolve(run, figures=figures | worst_shares([alone.shares(), held.shares()]))

    def _outcome(self, spec: ServerSpec, stalled: int) -> Outcome:
        roles = [Role.PUBLISH, *[Role.STALL] * stalled, *[Role.LISTEN] * (self.members - stalled - 1)]
        return self.rig.measure(spec, [Seat(0, role) for role in roles], self.load)


def scenario_of(members: int, stalled: int, load: Load) -> runner.Scenario:
    """Return the scenario with this load."""
    return runner.Scenario(
        name="stalled",
        title=(
            f"stalled: one room of {members}, of whom {stalled} stop reading, against the same without them; "
            f"{load.in_flight} messages of {load.message_bytes} bytes in flight, "
            f"{load.duration_seconds:g} s measured of each"
        ),
        parameters={"members": members, "stalled": stalled, "load": load},
        metrics=METRICS,
        prepare=lambda rig: Stalled(rig, members, stalled, load).measure,
    )


@click.command()
@click.option("--members", type=click.IntRange(2, 10_000), default=200, show_default=True)
@click.option("--stalled", "count", type=click.IntRange(1, 1000), default=5, show_default=True)
@click.option(
    "--message-bytes",
    type=click.IntRange(43, 60_000),
    default=16 * 1024,
    show_default=True,
    help="Of the text.",
)
@click.option("--in-flight", type=click.IntRange(1, 64), default=4, show_default=True)
@runner.time_options(duration=30.0)
@runner.series_options()
def stalled(
    *,
    series: runner.Series,
    members: int,
    count: int,
    message_bytes: int,
    in_flight: int,
    duration: float,
    warm_up: float,
) -> None:
    """Measure what readers that stop cost the others: throughput, p99, and the server's memory."""
    if count + 2 > members:
        raise click.BadParameter("someone must speak and someone read", param_hint="--stalled")
    machine.check_connections(members)
    load = Load(
        message_bytes=message_bytes,
        in_flight=in_flight,
        warm_up_seconds=warm_up,
        duration_seconds=duration,
    )
    runner.run_alone(series, scenario_of(members, count, load))
