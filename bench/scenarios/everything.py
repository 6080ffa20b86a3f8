"""`all`: every scenario against every server that is there, and the plots of it."""

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import attrs
import click

from bench import machine, runner
from bench.baselines.specs import BASELINES
from bench.errors import BenchError
from bench.load.generator import Load
from bench.load.plan import Crowd
from bench.plots.command import draw
from bench.rig import Rig, rigged
from bench.runner import Scenario
from bench.scenarios import (
    connect,
    durable,
    echo,
    fairness,
    fanout,
    large,
    latency,
    notify,
    recovery,
    scaling,
    stalled,
)
from bench.servers import SERVERS

_SERVER = "greenroom"
_THROUGH_REDIS = ("greenroom_redis", "centrifugo_redis")
_PEERS = tuple(name for name in BASELINES if name not in _THROUGH_REDIS)
_SQLITE = ("greenroom_sqlite", "greenroom_sqlite_normal", "greenroom_sqlite_off")


@attrs.frozen
class Part:
    """One scenario, and what it is run against if that is there."""

    scenario: Scenario
    against: Sequence[str]


@attrs.frozen
class Pace:
    """How long a load is driven and how many connections there are, whole or quick."""

    duration_seconds: float
    warm_up_seconds: float
    stalled_seconds: float
    connections: int
    joining: Crowd

    def load(self) -> Load:
        """Return the load that most scenarios start from."""
        return Load(warm_up_seconds=self.warm_up_seconds, duration_seconds=self.duration_seconds)


def _pace_of(*, quick: bool) -> Pace:
    if quick:
        return Pace(0.6, 0.2, 2.0, 500, Crowd(500, 50, 0))
    return Pace(3.0, 0.7, 30.0, 1000, Crowd(5000, 500, 0))


def parts_of(*, quick: bool) -> Iterator[Part]:
    """Yield all there is to run, what says most first."""
    pace = _pace_of(quick=quick)
    times = {"warm_up_seconds": pace.warm_up_seconds, "duration_seconds": pace.duration_seconds}
    shapes = {
        name: attrs.evolve(
            shape, crowd=Crowd(pace.connections, min(shape.crowd.rooms, pace.connections // 2), 1)
        )
        for name, shape in fanout.SHAPES.items()
    }
    for name, shape in shapes.items():
        load = attrs.evolve(pace.load(), in_flight=shape.in_flight)
        yield Part(fanout.scenario_of(f"fanout-{name}", shape.crowd, load), (*_PEERS, *_THROUGH_REDIS))
    yield Part(echo.scenario_of(50, attrs.evolve(pace.load(), in_flight=1)), _PEERS)
    joining = connect.load_of(connecting=64, rest_seconds=1.5)
    yield Part(connect.scenario_of(pace.joining, joining), _PEERS)
    for name in ("f1", "f2", "f3"):
        yield Part(latency.scenario_of(name, shapes[name], pace.load()), _PEERS)
    yield Part(notify.scenario_of(4, 10, **times), ("fastapi_seed",))
    still = attrs.evolve(
        pace.load(), message_bytes=16 * 1024, in_flight=4, duration_seconds=pace.stalled_seconds
    )
    yield Part(stalled.scenario_of(200, 5, still), _PEERS)
    yield Part(large.scenario_of(large.load_of(**times)), ())
    yield Part(fairness.scenario_of(pace.connections, fairness.load_of(**times)), ())
    yield Part(scaling.scenario_of(scaling.points_of(quick=quick), scaling.load_of(**times)), ())
    returning = recovery.Workload(Crowd(pace.connections // 2, 10, 0), 500, 100, 64)
    yield Part(recovery.scenario_of(returning), ("greenroom_sqlite",))
    for rooms, in_flight in ((1, 1), (200, 16)):
        work = durable.Workload(rooms, 1, in_flight, 64, pace.warm_up_seconds, pace.duration_seconds)
        yield Part(durable.scenario_of(work), _SQLITE)


def chosen(parts: Iterable[Part], only: Collection[str]) -> list[Part]:
    """Return the parts of these names or kinds, all if none is given.

    :raises BenchError: if one is of no part.
    """
    known = list(parts)
    for name in only:
        if not any(_is_of(part, name) for part in known):
            raise BenchError(
                f"no scenario is called {name}: {', '.join(part.scenario.name for part in known)}"
            )
    return [part for part in known if not only or any(_is_of(part, name) for name in only)]


def _is_of(part: Part, name: str) -> bool:
    return name in {part.scenario.name, part.scenario.name.partition("-")[0]}


def installed(rig: Rig) -> Iterator[str]:
    """Yield the servers that can be run; say of the others what they lack."""
    for name, make in SERVERS.items():
        try:
            make(rig.credentials)
        except BenchError as error:
            click.echo(f"{name} is left out: {error}")
        else:
            yield name


@click.command("all")
@click.option("--quick", is_flag=True, help="Short, small and twice: to see that all of it runs.")
@click.option(
    "--only",
    multiple=True,
    metavar="SCENARIO",
    help="Run only these, as fanout-f1, or fanout for all of its kind; `plot` draws several files of results.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(0.1, 600),
    help="How long it may take; repeats are left out first.  [default: 75, quick: 12]",
)
@click.option("--repeats", type=click.IntRange(1, 100), help="Of each.  [default: 3, quick: 2]")
@click.option(
    "--plots",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for the plots.  [default: beside the results]",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="JSON file for all results.  [default: bench/results/all-TIME.json]",
)
@click.option("--pin/--no-pin", default=True, help="Give server and load generator a core each.")
def everything(
    *,
    quick: bool,
    only: tuple[str, ...],
    minutes: float | None,
    repeats: int | None,
    plots: Path | None,
    output: Path | None,
    pin: bool,
) -> None:
    """Run every scenario against every server that is installed, in turns, and draw the plots.

    Scenarios share the time that is left: each has at least one run of every server, and none begins once all
    time is used up. A winner is called only where every run of one beats every run of the other.
    """
    began = time.monotonic()
    ends_at = began + (minutes or (12 if quick else 75)) * 60
    pins = machine.choose_pins(pin=pin)
    parts = chosen(parts_of(quick=quick), only)
    with rigged(pins) as rig:
        there = set(installed(rig))
        records, failed = {}, []
        for place, part in enumerate(parts):
            name, now = part.scenario.name, time.monotonic()
            if now > ends_at:
                failed.append(f"{name}: no time was left for it")
                continue
            against = tuple(peer for peer in part.against if peer in there and peer in part.scenario.servers)
            until = now + (ends_at - now) / (len(parts) - place)
            series = runner.Series(_SERVER, against, repeats or (2 if quick else 3), None, pins, until)
            click.echo(f"\n== {name} ({place + 1} of {len(parts)}, {(now - began) / 60:.1f} minutes in)")
            try:
                finished = runner.run_series(series, part.scenario, rig)
            except BenchError as error:
                click.echo(f"{name}: {error}")
                failed.append(f"{name}: {error}".splitlines()[0])
            else:
                records[name] = finished.record
                if not finished.is_clean:
                    failed.append(f"{name}: {_SERVER} did not deliver as it should")
    record = {"machine": machine.describe(), "scenarios": records, "failed": failed}
    results = runner.write_record(record, output, "all")
    click.echo(f"\nall of it is written to {results}")
    for path in draw([results], plots or results.with_suffix("")):
        click.echo(f"drawn: {path}")
    if failed:
        raise BenchError("not all of it came to a good end:\n" + "\n".join(failed))
