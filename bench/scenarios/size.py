"""`size`: many members on one node or several, at rest, as one of the nodes is drained, and until all are back."""

import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import attrs
import click

from bench import machine, process, procfs, runner
from bench.errors import BenchError
from bench.load.api import Api
from bench.load.holding import Held, Order, Remote, holding
from bench.load.plan import room_name, targets_of
from bench.load.returning import NOTE
from bench.process import Node, RunningServer
from bench.redis import RunningRedis, running_redis
from bench.report import Metric, Run, quantile
from bench.rig import Rig
from bench.servers import on_engine
from bench.spec import ServerSpec
from bench.usage import GENERATOR_SHARE, OTHERS_SHARE, SERVER_SHARE

_LATE_SECONDS = 600.0
_GRACE_SECONDS = 10.0
_POLL_SECONDS = 0.1
_ROOMS_AT_ONCE = 100

METRICS = (
    Metric("join_seconds", "all in s", better=-1, decimals=1),
    Metric("join_cpu_seconds", "join CPU-s", better=-1, decimals=1),
    Metric("member_kib", "KiB/member", better=-1, decimals=1),
    Metric("node_mib", "MiB/node", decimals=0),
    Metric("rest_cpu_share", "CPU/node at rest", better=-1, decimals=3),
    Metric("rest_redis_share", "Redis CPU at rest", better=-1, decimals=3),
    Metric("delivered_p50_ms", "delivery p50 ms", better=-1, decimals=1),
    Metric("delivered_p99_ms", "p99 ms", better=-1, decimals=1),
    Metric("delivery_us", "CPU µs/delivery", better=-1, decimals=1),
    Metric("told_seconds", "all told s", better=-1, decimals=2),
    Metric("closed_seconds", "all closed s", better=-1, decimals=1),
    Metric("ended_seconds", "node ended s", better=-1, decimals=1),
    Metric("drain_cpu_seconds", "drain CPU-s", better=-1, decimals=1),
    Metric("back_seconds", "all back s", better=-1, decimals=1),
    Metric("back_p50_ms", "away p50 ms", better=-1, decimals=0),
    Metric("back_p99_ms", "p99 ms", better=-1, decimals=0),
    Metric("back_cpu_seconds", "return CPU-s", better=-1, decimals=1),
    Metric("refused", "refused", better=-1),
)


@attrs.frozen
class Work:
    """The size of each part; members of one room are spread over the nodes in turn."""

    connections: int
    nodes: int
    room_members: int
    connecting: int
    returning: int
    rest_seconds: float
    drain_seconds: float

    @property
    def rooms(self) -> int:
        """Return how many rooms there are."""
        return -(-self.connections // self.room_members)


@attrs.define(eq=False)
class Stage:
    """The nodes of one run with their members: those of `crowds[n]` are at first on `nodes[n]`."""

    work: Work
    api_key: str
    nodes: Sequence[Node]
    crowds: Sequence[Remote]
    redis: RunningRedis | None
    published: int = 0
    delivered_ns: list[tuple[int, int]] = attrs.Factory(list)
    back_ns: list[tuple[int, int]] = attrs.Factory(list)
    before_bytes: int = 0
    figures: dict[str, float] = attrs.Factory(dict)

    def note(self, **figures: float) -> None:
        """Keep figures, and print them at once: a run takes minutes, and those that are there count if it fails."""
        self.figures |= figures
        click.echo(", ".join(f"{name} {figure:.2f}" for name, figure in figures.items()))

    def servers(self, nodes: Sequence[Node] | None = None) -> list[RunningServer]:
        """Return those that run."""
        return [node.server for node in (self.nodes if nodes is None else nodes) if node.server]

    def cpu_seconds(self, nodes: Sequence[Node] | None = None) -> float:
        """Return what they have used up to now."""
        return sum(server.cpu_seconds() for server in self.servers(nodes))

    def redis_seconds(self) -> float:
        """Return what Redis has used up to now."""
        return self.redis.use().cpu_seconds if self.redis else 0.0

    def publish(self, node: Node) -> None:
        """Publish the next note in every room, over HTTP, in requests of a hundred."""
        assert node.port is not None
        self.published += 1
        api = Api(process.HOST, node.port, self.api_key)
        for first in range(0, self.work.rooms, _ROOMS_AT_ONCE):
            rooms = range(first, min(first + _ROOMS_AT_ONCE, self.work.rooms))
            note = {"type": NOTE, "number": self.published, "at_ns": time.monotonic_ns()}
            api.publish((room_name(room), note) for room in rooms)

    def wait(self, what: str, is_so: Callable[[Held, Remote], bool]) -> list[Held]:
        """Wait until it is so of each crowd; returns the last reports.

        :raises BenchError: if it is not after ten minutes.
        """
        deadline = time.monotonic() + _LATE_SECONDS
        while True:
            reports = [crowd.ask() for crowd in self.crowds]
            for report in reports:
                self.delivered_ns += report.delivered_ns
                self.back_ns += report.back_ns
            if all(is_so(report, crowd) for report, crowd in zip(reports, self.crowds, strict=True)):
                return reports
            if time.monotonic() > deadline:
                counts = ", ".join(
                    f"{report.inside} of {crowd.size} (refused: {report.refusals})"
                    for report, crowd in zip(reports, self.crowds, strict=True)
                )
                raise BenchError(f"not {what} after {_LATE_SECONDS:g} s; inside: {counts}")
            time.sleep(_POLL_SECONDS)

    def wait_all_have(self, number: int) -> list[Held]:
        """Wait until every member has note `number`."""
        return self.wait(
            f"every member has note {number}",
            lambda held, crowd: held.arrivals.get(number, 0) + held.lost >= crowd.size,
        )


@attrs.frozen
class Size:
    """Everything that one run of the scenario needs but the server."""

    rig: Rig
    work: Work

    def measure(self, spec: ServerSpec, repeat: int) -> Run:
        """Measure every part in turn.

        :raises BenchError: if a node does not start, or members do not come to where they should be.
        """
        load_average = os.getloadavg()[0]
        with ExitStack() as stack:
            stage = self._set_up(stack, spec)
            began = time.monotonic(), procfs.busy_seconds()
            self._join(stage)
            _rest(stage)
            _deliver(stage)
            _drain(stage)
            if self.work.nodes == 1:
                _return_at_once(stage)
            stage.publish(stage.nodes[-1])
            last = stage.wait_all_have(stage.published)
            shares = _shares(stage, last, began)
        return Run(
            server=spec.name,
            repeat=repeat,
            load_average=load_average,
            figures=stage.figures | shares,
            faults={
                "not recovered": sum(held.not_recovered for held in last),
                "lost": sum(held.lost for held in last),
                "repeated": sum(held.repeated for held in last),
                "not told": sum(held.away - held.told for held in last),
                "not in rooms": sum(
                    crowd.size - held.inside for held, crowd in zip(last, stage.crowds, strict=True)
                ),
            },
        )

    def _set_up(self, stack: ExitStack, spec: ServerSpec) -> Stage:
        work, pins = self.work, self.rig.pins if self.work.nodes == 1 else machine.choose_pins(pin=False)
        redis = None
        if work.nodes == 1:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=machine.disk())))
            engine = f"sqlite:///{directory}/rooms.db"
        else:
            redis = stack.enter_context(running_redis(core=pins.generator))
            engine = redis.url
        nodes = [
            Node(
                on_engine(spec, engine, drain_seconds=work.drain_seconds),
                pins.server,
                work.drain_seconds + _GRACE_SECONDS,
            )
            for _ in range(work.nodes)
        ]
        for node in nodes:
            stack.callback(node.stop)
            node.start()
        rooms = (number // work.room_members for number in range(work.connections))
        targets = list(targets_of(rooms, secret=self.rig.credentials.secret))
        crowds = [
            stack.enter_context(holding(process.HOST, targets[number :: work.nodes]))
            for number in range(work.nodes)
        ]
        return Stage(work, self.rig.credentials.api_key, nodes, crowds, redis)

    def _join(self, stage: Stage) -> None:
        for crowd in stage.crowds:
            crowd.ask()
        before = [server.resident_bytes() for server in stage.servers()]
        used, began = stage.cpu_seconds(), time.monotonic()
        for node, crowd in zip(stage.nodes, stage.crowds, strict=True):
            assert node.port is not None
            crowd.ask(Order((node.port,), self.work.connecting))
        stage.wait("all in their rooms", _is_inside)
        stage.note(join_seconds=time.monotonic() - began, join_cpu_seconds=stage.cpu_seconds() - used)
        stage.before_bytes = sum(before)


def _rest(stage: Stage) -> None:
    used, redis = stage.cpu_seconds(), stage.redis_seconds()
    time.sleep(stage.work.rest_seconds)
    seconds = stage.work.rest_seconds
    held = sum(server.resident_bytes() for server in stage.servers())
    stage.note(
        rest_cpu_share=(stage.cpu_seconds() - used) / seconds / len(stage.nodes),
        rest_redis_share=(stage.redis_seconds() - redis) / seconds,
        member_kib=(held - stage.before_bytes) / stage.work.connections / 1024,
        node_mib=held / len(stage.nodes) / 2**20,
    )


def _deliver(stage: Stage) -> None:
    used = stage.cpu_seconds()
    stage.publish(stage.nodes[-1])
    stage.wait_all_have(stage.published)
    delivered = sorted(stage.delivered_ns)
    stage.note(
        delivered_p50_ms=quantile(delivered, 0.5) / 1e6,
        delivered_p99_ms=quantile(delivered, 0.99) / 1e6,
        delivery_us=(stage.cpu_seconds() - used) / stage.work.connections * 1e6,
    )


def _drain(stage: Stage) -> None:
    """End the first node by SIGTERM, with a note published halfway where there are others; its members go to those."""
    node, others = stage.nodes[0], stage.nodes[1:]
    for crowd in stage.crowds:
        crowd.ask(Order(_ports(others), stage.work.returning))
    used, others_used = stage.cpu_seconds([node]), stage.cpu_seconds(others)
    children = _children_seconds()
    began_ns = time.monotonic_ns()
    stopping = threading.Thread(target=node.stop)
    stopping.start()
    if others:
        stopping.join(stage.work.drain_seconds / 2)
        stage.publish(others[-1])
    stopping.join()
    ended_ns = time.monotonic_ns()
    first = stage.wait(
        "all closed", lambda held, crowd: held.away == crowd.size or crowd is not stage.crowds[0]
    )[0]
    stage.note(
        told_seconds=(first.told_at_ns - began_ns) / 1e9,
        closed_seconds=(first.away_at_ns - began_ns) / 1e9,
        ended_seconds=(ended_ns - began_ns) / 1e9,
        drain_cpu_seconds=_children_seconds() - children - used,
    )
    if others:
        _await_return(stage, others, began_ns, others_used)


def _return_at_once(stage: Stage) -> None:
    """Start the only node again, and let all its members come at once, behind a note that all have missed."""
    [node], [crowd] = stage.nodes, stage.crowds
    node.start()
    stage.publish(node)
    used, began_ns = stage.cpu_seconds(), time.monotonic_ns()
    crowd.ask(Order(_ports(stage.nodes), stage.work.returning))
    _await_return(stage, stage.nodes, began_ns, used)


def _await_return(stage: Stage, nodes: Sequence[Node], began_ns: int, used: float) -> None:
    reports = stage.wait("all back", _is_inside)
    back = sorted(stage.back_ns)
    stage.note(
        back_seconds=(reports[0].inside_at_ns - began_ns) / 1e9,
        back_p50_ms=quantile(back, 0.5) / 1e6,
        back_p99_ms=quantile(back, 0.99) / 1e6,
        back_cpu_seconds=stage.cpu_seconds(nodes) - used,
        refused=sum(sum(held.refusals.values()) for held in reports),
    )


def _is_inside(held: Held, crowd: Remote) -> bool:
    return held.inside == crowd.size


def _ports(nodes: Sequence[Node]) -> tuple[int, ...]:
    return tuple(node.port for node in nodes if node.port is not None)


def _children_seconds() -> float:
    """Return the CPU time of the processes that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _shares(stage: Stage, last: Sequence[Held], began: tuple[float, float]) -> dict[str, float]:
    """Return the shares of the whole run; what the first node used before it was ended is not in it."""
    seconds, busy = time.monotonic() - began[0], procfs.busy_seconds() - began[1]
    servers = [server.cpu_seconds() for server in stage.servers()]
    crowds = [held.cpu_seconds for held in last]
    others = busy - sum(servers) - sum(crowds) - stage.redis_seconds()
    return {
        SERVER_SHARE: max(servers) / seconds,
        GENERATOR_SHARE: max(crowds) / seconds,
        OTHERS_SHARE: max(0.0, others) / (seconds * (os.cpu_count() or 1)),
    }


def _title(work: Work) -> str:
    return (
        f"size: {work.connections} members of {work.rooms} rooms on {work.nodes} nodes "
        f"({'sqlite' if work.nodes == 1 else 'one Redis'}), {work.rest_seconds:g} s of rest, one message to each room; then "
        f"the first node is drained in {work.drain_seconds:g} s, and its members come back, at most "
        f"{work.returning} under way at once in each process of the load"
    )


def scenario_of(work: Work) -> runner.Scenario:
    """Return the scenario with this load."""
    return runner.Scenario(
        name="size",
        title=_title(work),
        parameters={"work": work},
        metrics=METRICS,
        prepare=lambda rig: Size(rig, work).measure,
        servers=("greenroom",),
    )


@click.command()
@click.option("--connections", type=click.IntRange(1, 1_000_000), default=5000, show_default=True)
@click.option("--nodes", type=click.IntRange(1, 100), default=1, show_default=True)
@click.option("--room-members", type=click.IntRange(1, 100_000), default=10, show_default=True)
@click.option(
    "--connecting",
    type=click.IntRange(1, 100_000),
    default=64,
    show_default=True,
    help="Handshakes at once at first, from each process of the load.",
)
@click.option(
    "--returning",
    type=click.IntRange(1, 100_000),
    default=100_000,
    show_default=True,
    help="Likewise as they come back.",
)
@click.option("--rest", type=click.FloatRange(0.1, 600), default=60, show_default=True, help="Seconds.")
@click.option("--drain", type=click.FloatRange(0, 600), default=10, show_default=True, help="Seconds.")
@runner.series_options(servers=("greenroom",))
def size(
    *,
    series: runner.Series,
    connections: int,
    nodes: int,
    room_members: int,
    connecting: int,
    returning: int,
    rest: float,
    drain: float,
) -> None:
    """Measure many members at rest, the drain of a node, and their return, with nothing lost.

    Members of a room are spread over the nodes, which share a Redis; one node alone keeps its rooms in SQLite. The first node is
    ended by SIGTERM: its members come back to the others at once, or all together to the only node once it
    is started again. Each process of the load holds the members of one node. The clients are Python's.
    """
    work = Work(connections, nodes, room_members, connecting, returning, rest, drain)
    # The others take what the first has had.
    machine.check_connections(-(-connections // max(1, nodes - 1)))
    runner.run_alone(series, scenario_of(work))
