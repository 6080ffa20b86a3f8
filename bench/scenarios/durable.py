"""`durable`: how many messages a second are acknowledged, and how soon, by engine and by what a commit waits for."""

import os
from pathlib import Path

import attrs
import click

from bench import machine, process, runner
from bench.load.api import Api
from bench.load.client import Clients
from bench.load.plan import Crowd, make_targets
from bench.load.publishers import Publishing
from bench.report import Metric, Run, quantile
from bench.servers import GREENROOMS
from bench.spec import Credentials, ServerSpec
from bench.usage import CpuTimes, latency_buckets, on_core

_JOIN_SECONDS, _DRAIN_SECONDS = 60.0, 10.0
_SQLITE = ("greenroom_sqlite", "greenroom_sqlite_normal", "greenroom_sqlite_off")

METRICS = (
    Metric("acks_per_second", "acks/s", better=1),
    Metric("acks_per_cpu_second", "per server CPU-s", better=1),
    Metric("ack_p50_ms", "p50 ms", better=-1, decimals=2),
    Metric("ack_p99_ms", "p99 ms", better=-1, decimals=2),
    # A memory engine commits nothing: 0.
    Metric("messages_per_commit", "messages/commit", decimals=1),
    Metric("peak_memory_mib", "memory MiB", decimals=1),
)


@attrs.frozen
class Workload:
    """In each of `rooms`, `publishers` that keep `in_flight` messages of `message_bytes` unacknowledged."""

    rooms: int
    publishers: int
    in_flight: int
    message_bytes: int
    warm_up_seconds: float
    duration_seconds: float

    @property
    def name(self) -> str:
        """Return what tells it from other workloads."""
        return f"{self.rooms}x{self.in_flight}"

    @property
    def crowd(self) -> Crowd:
        """Return who connects."""
        return Crowd(self.rooms * self.publishers, self.rooms, self.publishers)


@attrs.frozen
class Durable:
    """Everything that one run of the scenario needs but the server."""

    workload: Workload
    credentials: Credentials
    pins: machine.Pins

    def measure(self, spec: ServerSpec, repeat: int) -> Run:
        """Start the server, load it, and return what was counted.

        :raises BenchError: if the server does not start, or the publishers cannot join.
        """
        load_average = os.getloadavg()[0]
        with process.running(spec, core=self.pins.server) as server, on_core(self.pins.generator):
            figures, faults, latency_ns = self._load(server)
            figures["peak_memory_mib"] = server.peak_bytes() / 2**20
        return Run(
            server=spec.name,
            repeat=repeat,
            load_average=load_average,
            figures=figures,
            faults=faults,
            latency_ns=latency_ns,
        )

    def _load(
        self, server: process.RunningServer
    ) -> tuple[dict[str, float], dict[str, int], list[tuple[int, int]]]:
        work, api = self.workload, Api(process.HOST, server.port, self.credentials.api_key)
        targets = make_targets(work.crowd, secret=self.credentials.secret)
        with Clients(process.HOST, server.port) as clients:
            for number, target in enumerate(targets):
                clients.connect(number, target)
            load = Publishing(
                clients, len(targets), in_flight=work.in_flight, message_bytes=work.message_bytes
            )
            load.join(_JOIN_SECONDS)
            load.run(work.warm_up_seconds, measured=False)
            stored_before, before = api.metrics(), CpuTimes.now(server)
            seconds = load.run(work.duration_seconds, measured=True)
            used, stored = CpuTimes.now(server).since(before), api.metrics()
            unacknowledged = load.end(_DRAIN_SECONDS)
        counted = load.counted
        latency_ns = latency_buckets(counted.latencies_ns)
        figures = {
            "acks_per_second": counted.acks / seconds,
            "acks_per_cpu_second": counted.acks / used.server,
            "ack_p50_ms": quantile(latency_ns, 0.50) / 1e6,
            "ack_p99_ms": quantile(latency_ns, 0.99) / 1e6,
            "messages_per_commit": messages_per_commit(stored_before, stored),
            **used.shares(generator_seconds=used.own, seconds=seconds),
        }
        faults = {
            "unacknowledged": unacknowledged,
            "refused": counted.refused,
            "out of order": counted.out_of_order,
            "lost": counted.lost,
            "disconnected": counted.disconnected,
        }
        return figures, faults, latency_ns


def messages_per_commit(before: dict[str, float], after: dict[str, float]) -> float:
    """Return how many messages each commit between two readings of the metrics took, 0 if there was none."""

    def grown(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    commits = grown("greenroom_engine_commits_total")
    return grown("greenroom_engine_messages_total") / commits if commits else 0.0


def _title(work: Workload) -> str:
    return (
        f"durable: {work.rooms} rooms, in each {work.publishers} publishing; "
        f"{work.in_flight} messages of {work.message_bytes} bytes in flight; {work.warm_up_seconds:g} s warm-up, "
        f"{work.duration_seconds:g} s measured; files on {machine.filesystem(machine.disk())}"
    )


def _suffixed(output: Path | None, name: str) -> Path | None:
    return None if output is None else output.with_stem(f"{output.stem}-{name}")


def scenario_of(workload: Workload) -> runner.Scenario:
    """Return the scenario with this load."""
    return runner.Scenario(
        name=f"durable-{workload.name}",
        title=_title(workload),
        parameters={"workload": workload, "filesystem": machine.filesystem(machine.disk())},
        metrics=METRICS,
        prepare=lambda rig: Durable(workload, rig.credentials, rig.pins).measure,
        servers=tuple(GREENROOMS),
    )


@click.command()
@click.option(
    "--rooms",
    type=click.IntRange(1, 10_000),
    multiple=True,
    default=(1, 200),
    show_default=True,
    help="Measured with each number.",
)
@click.option(
    "--in-flight",
    type=click.IntRange(1, 256),
    multiple=True,
    default=(1, 16),
    show_default=True,
    help="Messages that each publisher sends before one is acknowledged; measured with each number.",
)
@click.option(
    "--publishers", type=click.IntRange(1, 1000), default=1, show_default=True, help="In each room."
)
@click.option(
    "--message-bytes",
    type=click.IntRange(1, 500),
    default=64,
    show_default=True,
    help="Of the text alone.",
)
@click.option("--duration", type=click.FloatRange(0.1, 600), default=5.0, show_default=True, help="Seconds.")
@click.option("--warm-up", type=click.FloatRange(0, 600), default=1.0, show_default=True, help="Seconds.")
@runner.series_options(servers=GREENROOMS, against=_SQLITE)
def durable(
    *,
    series: runner.Series,
    rooms: tuple[int, ...],
    in_flight: tuple[int, ...],
    publishers: int,
    message_bytes: int,
    duration: float,
    warm_up: float,
) -> None:
    """Count acknowledgements to publishers that never pause, for each engine and `synchronous`.

    An acknowledged message is in the engine. Each pair of --rooms and --in-flight is a series with results
    of its own, ROOMSxIN_FLIGHT in the file's name. Messages per commit show how far one flush to the disk
    is shared.
    """
    machine.allow_connections(max(rooms) * publishers)
    for in_each in in_flight:
        for count in rooms:
            workload = Workload(count, publishers, in_each, message_bytes, warm_up, duration)
            own = attrs.evolve(series, output=_suffixed(series.output, workload.name))
            runner.run_alone(own, scenario_of(workload))
