"""`scaling`: how what a delivery costs grows with rooms and members, and memory with connections."""

import resource

import attrs
import click

from bench import machine, runner
from bench.load.generator import Load
from bench.load.plan import Crowd
from bench.report import Metric, Run
from bench.rig import Outcome, Rig
from bench.scenarios.connect import load_of as connecting
from bench.spec import ServerSpec
from bench.usage import worst_shares

_SPARE_FILES = 128
_MEMORY_ROOM = 10


@attrs.frozen
class Points:
    """The measured points: rooms of these sizes, one at a time; `connections` in so many rooms; so many at rest."""

    sizes: tuple[int, ...]
    connections: int
    rooms: tuple[int, ...]
    resting: tuple[int, ...]


def points_of(*, quick: bool) -> Points:
    """Return the points; those at rest go up to what the limit of descriptors allows."""
    most = most_connections()
    if quick:
        return Points((2, 10, 100, 1000), min(1000, most), (1, 10, 100, 500), (100, 1000, min(2000, most)))
    sizes = tuple(size for size in (2, 10, 100, 1000, 10_000) if size <= most)
    resting = sorted({number for number in (100, 1000, 5000, 10_000, most) if number <= most})
    return Points(sizes, min(10_000, most), (1, 10, 100, 1000, 5000), tuple(resting))


def most_connections() -> int:
    """Return how many connections a server and a load of this machine can hold."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    ports = machine.local_ports()
    return ports if files in {-1, resource.RLIM_INFINITY} else min(ports, files - _SPARE_FILES)


def metrics_of(points: Points) -> tuple[Metric, ...]:
    """Return a figure for each point."""
    return (
        *(Metric(f"size_{size}", f"a room of {size}", better=1) for size in points.sizes),
        *(Metric(f"rooms_{rooms}", f"{rooms} rooms", better=1) for rooms in points.rooms),
        *(Metric(f"resting_{count}", f"MiB of {count}", better=-1, decimals=1) for count in points.resting),
    )


@attrs.frozen
class Scaling:
    """Everything that one run of the scenario needs but the server."""

    rig: Rig
    points: Points
    load: Load

    def measure(self, spec: ServerSpec, repeat: int) -> Run:
        """Measure each point with a server of its own.

        :raises BenchError: if a server does not start or a load does not come to a measurement.
        """
        outcomes: dict[str, Outcome] = {}
        for size in self.points.sizes:
            outcomes[f"size_{size}"] = self._speak(spec, Crowd(size, 1, 1))
        for rooms in self.points.rooms:
            outcomes[f"rooms_{rooms}"] = self._speak(spec, Crowd(self.points.connections, rooms, 1))
        figures = {name: outcome.delivered_per_cpu_second for name, outcome in outcomes.items()}
        for count in self.points.resting:
            crowd = Crowd(count, max(1, count // _MEMORY_ROOM), 0)
            name = f"resting_{count}"
            outcomes[name] = self.rig.measure(
                spec, crowd.seats(), connecting(connecting=64, rest_seconds=1.0)
            )
            figures[name] = outcomes[name].after_bytes / 2**20
        run = outcomes[f"size_{self.points.sizes[0]}"].run(spec, repeat, {})
        faults = {name: sum(known.faults()[name] for known in outcomes.values()) for name in run.faults}
        shares = worst_shares(outcome.shares() for outcome in outcomes.values())
        return attrs.evolve(run, figures=figures | shares, faults=faults)

    def _speak(self, spec: ServerSpec, crowd: Crowd) -> Outcome:
        return self.rig.measure(spec, crowd.seats(), self.load)


def load_of(*, warm_up_seconds: float, duration_seconds: float) -> Load:
    """Return the load of each point but those at rest."""
    return Load(
        in_flight=8,
        warm_up_seconds=warm_up_seconds,
        duration_seconds=duration_seconds,
        connecting=64,
        connect_seconds=120,
    )


def scenario_of(points: Points, load: Load) -> runner.Scenario:
    """Return the scenario with these points."""
    return runner.Scenario(
        name="scaling",
        title=(
            f"scaling: deliveries per CPU-second of one room of {_few(points.sizes)}, and of {points.connections} "
            f"connections in {_few(points.rooms)} rooms, {load.in_flight} in flight in each; memory of "
            f"{_few(points.resting)} connections at rest in rooms of {_MEMORY_ROOM}"
        ),
        parameters={"points": points, "load": load},
        metrics=metrics_of(points),
        prepare=lambda rig: Scaling(rig, points, load).measure,
    )


def _few(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))


@click.command()
@click.option("--quick", is_flag=True, help="Fewer and smaller points.")
@runner.time_options(duration=2.0, warm_up=0.5)
@runner.series_options()
def scaling(*, series: runner.Series, quick: bool, duration: float, warm_up: float) -> None:
    """Measure how cost grows: deliveries with the size and the number of rooms, memory with connections."""
    load = load_of(warm_up_seconds=warm_up, duration_seconds=duration)
    runner.run_alone(series, scenario_of(points_of(quick=quick), load))
