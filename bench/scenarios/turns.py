"""`turns`: what the turns of rooms with code cost beside rooms without, and how soon a room is back after its server's death."""

import os

import attrs
import click

from bench import machine, process, runner
from bench.load.asking import Ask, Asked, Asking
from bench.load.client import Clients
from bench.load.dying import shared, time_until_back
from bench.load.plan import targets_of
from bench.process import RunningServer
from bench.report import Metric, Run, quantile
from bench.rig import Rig
from bench.spec import ServerSpec
from bench.usage import CpuTimes, latency_buckets, on_core, worst_shares

_SERVERS = ("greenroom", "greenroom_sqlite", "greenroom_sqlite_normal", "greenroom_redis")
_JOIN_SECONDS, _DRAIN_SECONDS = 60.0, 10.0
_PLAIN, _WITH_CODE = "/ws/{room}?token={token}", "/ws/turns.{room}?token={token}"

METRICS = (
    Metric("plain_per_cpu_second", "plain messages per CPU-s"),
    Metric("message_per_cpu_second", "message turns per CPU-s", better=1),
    Metric("message_share", "of plain ones", better=1, decimals=2),
    Metric("keyed_per_cpu_second", "calls with id per CPU-s", better=1),
    Metric("unkeyed_per_cpu_second", "without id", better=1),
    Metric("plain_p99_ms", "plain p99 ms", decimals=2),
    Metric("call_p50_ms", "call p50 ms", better=-1, decimals=2),
    Metric("call_p99_ms", "call p99 ms", better=-1, decimals=2),
    # 0 where a room ends with its server.
    Metric("back_ms", "back after kill -9 ms", better=-1),
)


@attrs.frozen
class Workload:
    """In each of `rooms`, one member that keeps `in_flight` requests unanswered."""

    rooms: int
    in_flight: int
    warm_up_seconds: float
    duration_seconds: float


@attrs.frozen
class Counted:
    """The counts of one kind of request in the measured time."""

    asked: Asked
    seconds: float
    used: CpuTimes
    unanswered: int

    @property
    def per_cpu_second(self) -> float:
        """Return the answers for each CPU-second of the server."""
        return self.asked.answers / self.used.server

    def faults(self) -> dict[str, int]:
        """Return what went wrong, by name."""
        asked = self.asked
        return {
            "unanswered": self.unanswered,
            "refused": asked.refused,
            "lost": asked.lost,
            "disconnected": asked.disconnected,
        }


@attrs.frozen
class Turns:
    """Everything that one run of the scenario needs but the server."""

    rig: Rig
    work: Workload

    def measure(self, spec: ServerSpec, repeat: int) -> Run:
        """Start the server, load it with each kind of request in turn, then kill it.

        :raises BenchError: if the server does not start, or a member cannot join.
        """
        load_average = os.getloadavg()[0]
        spec = attrs.evolve(spec, arguments=(*spec.arguments, "--rooms", "bench.turn_rooms"))
        pins, api_key = self.rig.pins, self.rig.credentials.api_key
        with (
            on_core(pins.generator),
            shared(spec, pins) as own,
            process.running(own, core=pins.server) as server,
        ):
            plain = self._count(server, Ask.CHAT, _PLAIN)
            messages = self._count(server, Ask.CHAT, _WITH_CODE)
            keyed = self._count(server, Ask.KEYED, _WITH_CODE)
            unkeyed = self._count(server, Ask.UNKEYED, _WITH_CODE)
            is_kept = own is not spec
            back_seconds = time_until_back(own, server, pins, api_key) if is_kept else 0.0
        counted = (plain, messages, keyed, unkeyed)
        latency_ns, plain_ns = (latency_buckets(each.asked.latencies_ns) for each in (keyed, plain))
        figures = {
            "plain_per_cpu_second": plain.per_cpu_second,
            "message_per_cpu_second": messages.per_cpu_second,
            "message_share": messages.per_cpu_second / plain.per_cpu_second,
            "keyed_per_cpu_second": keyed.per_cpu_second,
            "unkeyed_per_cpu_second": unkeyed.per_cpu_second,
            "plain_p99_ms": quantile(plain_ns, 0.99) / 1e6,
            "call_p50_ms": quantile(latency_ns, 0.50) / 1e6,
            "call_p99_ms": quantile(latency_ns, 0.99) / 1e6,
            "back_ms": 1000 * back_seconds,
        }
        shares = worst_shares(
            each.used.shares(generator_seconds=each.used.own, seconds=each.seconds) for each in counted
        )
        return Run(
            server=spec.name,
            repeat=repeat,
            load_average=load_average,
            figures=figures | shares,
            faults={name: sum(each.faults()[name] for each in counted) for name in plain.faults()},
            latency_ns=latency_ns,
        )

    def _count(self, server: RunningServer, ask: Ask, form: str) -> Counted:
        work = self.work
        targets = list(targets_of(range(work.rooms), secret=self.rig.credentials.secret, form=form))
        with Clients(process.HOST, server.port) as clients:
            asking = Asking(clients, targets, ask, in_flight=work.in_flight)
            asking.join(_JOIN_SECONDS)
            asking.run(work.warm_up_seconds)
            before = CpuTimes.now(server)
            seconds = asking.run(work.duration_seconds)
            used = CpuTimes.now(server).since(before)
            answers = asking.asked.answers
            unanswered = asking.end(_DRAIN_SECONDS)
        return Counted(attrs.evolve(asking.asked, answers=answers), seconds, used, unanswered)


def scenario_of(work: Workload) -> runner.Scenario:
    """Return the scenario with this load."""
    return runner.Scenario(
        name="turns",
        title=(
            f"turns: {work.rooms} rooms of one member, {work.in_flight} requests unanswered in each; chats in rooms without code "
            f"and with code, then calls with and without id, {work.duration_seconds:g} s measured of each; then kill -9"
        ),
        parameters={"workload": work, "filesystem": machine.filesystem(machine.disk())},
        metrics=METRICS,
        prepare=lambda rig: Turns(rig, work).measure,
        servers=_SERVERS,
    )


@click.command()
@click.option("--rooms", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option(
    "--in-flight",
    type=click.IntRange(1, 256),
    default=4,
    show_default=True,
    help="Unanswered, of each member.",
)
@runner.time_options(duration=3.0, warm_up=0.5)
@runner.series_options(servers=_SERVERS, against=("greenroom_sqlite", "greenroom_redis"))
def turns(*, series: runner.Series, rooms: int, in_flight: int, duration: float, warm_up: float) -> None:
    """Count the turns of rooms with code for each engine, beside messages in rooms without.

    At last the server that has a counter is killed with -9: SQLite's is started again, and through Redis another node
    is asked. What is told is the time until the next call is answered, which must count on from the one before.
    """
    machine.allow_connections(rooms)
    runner.run_alone(series, scenario_of(Workload(rooms, in_flight, warm_up, duration)))
