"""`recovery`: how soon many clients have caught up that were cut off and come back at once."""

import os
import time
from collections.abc import Iterator

import attrs
import click

from bench import machine, process, runner
from bench.errors import BenchError
from bench.load.api import Api
from bench.load.client import Clients
from bench.load.plan import Crowd, make_targets, room_name
from bench.load.returning import NOTE, Returned, come_back, join_all
from bench.report import Metric, Run, quantile
from bench.servers import GREENROOMS
from bench.spec import Credentials, ServerSpec
from bench.usage import CpuTimes, latency_buckets, on_core

_JOIN_SECONDS, _LEAVE_SECONDS, _RETURN_SECONDS = 60.0, 30.0, 60.0
_POLL_SECONDS = 0.05
# Without a history nothing can be recovered.
_SERVERS = tuple(name for name in GREENROOMS if name != "greenroom_without_history")

METRICS = (
    Metric("all_back_seconds", "all back s", better=-1, decimals=3),
    Metric("back_p50_ms", "p50 ms", better=-1, decimals=1),
    Metric("back_p99_ms", "p99 ms", better=-1, decimals=1),
    Metric("joins_per_second", "joins/s", better=1),
    Metric("server_cpu_seconds", "server CPU-s", better=-1, decimals=2),
    Metric("peak_memory_mib", "memory MiB", better=-1, decimals=1),
)


@attrs.frozen
class Workload:
    """The returning clients, and `history` notes of `message_bytes` in each room, of which they have missed `missed`."""

    crowd: Crowd
    history: int
    missed: int
    message_bytes: int

    def notes(self, first: int, last: int) -> Iterator[tuple[str, object]]:
        """Yield the notes `first` to `last` for each room."""
        text = "x" * self.message_bytes
        for number in range(first, last + 1):
            for room in range(self.crowd.rooms):
                yield room_name(room), {"type": NOTE, "number": number, "text": text}


@attrs.frozen
class Recovery:
    """Everything that one run of the scenario needs but the server."""

    workload: Workload
    credentials: Credentials
    pins: machine.Pins

    def measure(self, spec: ServerSpec, repeat: int) -> Run:
        """Start the server, fill its rooms, cut its clients off, and return how they came back.

        :raises BenchError: if it does not come to their return.
        """
        load_average = os.getloadavg()[0]
        with process.running(spec, core=self.pins.server) as server, on_core(self.pins.generator):
            returned, used, seconds = self._load(server)
            peak_bytes = server.peak_bytes()
        latency_ns = latency_buckets(returned.caught_up_ns)
        return Run(
            server=spec.name,
            repeat=repeat,
            load_average=load_average,
            figures={
                "all_back_seconds": max(returned.caught_up_ns, default=0) / 1e9,
                "back_p50_ms": quantile(latency_ns, 0.50) / 1e6,
                "back_p99_ms": quantile(latency_ns, 0.99) / 1e6,
                "joins_per_second": len(returned.caught_up_ns) / seconds,
                "server_cpu_seconds": used.server,
                "peak_memory_mib": peak_bytes / 2**20,
            }
            | used.shares(generator_seconds=used.own, seconds=seconds),
            faults={
                "not recovered": returned.not_recovered,
                "lost": returned.lost,
                "repeated": returned.repeated,
                "disconnected": returned.disconnected,
                "too late": returned.too_late,
            },
            latency_ns=latency_ns,
        )

    def _load(self, server: process.RunningServer) -> tuple[Returned, CpuTimes, float]:
        """Return how the clients came back, what that cost, and how many seconds it took."""
        work, api = self.workload, Api(process.HOST, server.port, self.credentials.api_key)
        targets = make_targets(work.crowd, secret=self.credentials.secret)
        api.publish(work.notes(1, work.history))
        with Clients(process.HOST, server.port) as clients:
            positions = join_all(clients, targets, number=work.history, seconds=_JOIN_SECONDS)
            clients.cut()
            api.publish(work.notes(work.history + 1, work.history + work.missed))
            # What leaving costs is no part of what returning costs.
            wait_until_all_left(api, _LEAVE_SECONDS)
            before, begin_seconds = CpuTimes.now(server), time.perf_counter()
            returned = come_back(clients, targets, positions, missed=work.missed, seconds=_RETURN_SECONDS)
            seconds = time.perf_counter() - begin_seconds
            return returned, CpuTimes.now(server).since(before), seconds


def wait_until_all_left(api: Api, seconds: float) -> None:
    """Wait until the server has let go of every connection.

    :raises BenchError: if it has not after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while left := api.metrics()["greenroom_connections"]:
        if time.monotonic() > deadline:
            raise BenchError(f"{left:g} connections are still there, {seconds:g} s after they were cut")
        time.sleep(_POLL_SECONDS)


def _title(work: Workload) -> str:
    return (
        f"recovery: {work.crowd.connections} clients of {work.crowd.rooms} rooms, cut off at once and back at "
        f"once; in each room {work.history} messages of {work.message_bytes} bytes, then {work.missed} missed; "
        f"files on {machine.filesystem(machine.disk())}"
    )


def scenario_of(workload: Workload) -> runner.Scenario:
    """Return the scenario with this load."""
    return runner.Scenario(
        name="recovery",
        title=_title(workload),
        parameters={"workload": workload, "filesystem": machine.filesystem(machine.disk())},
        metrics=METRICS,
        prepare=lambda rig: Recovery(workload, rig.credentials, rig.pins).measure,
        servers=_SERVERS,
    )


@click.command()
@click.option("--connections", type=click.IntRange(1, 50_000), default=500, show_default=True)
@click.option("--rooms", type=click.IntRange(1, 10_000), default=10, show_default=True)
@click.option(
    "--history",
    type=click.IntRange(0, 10_000),
    default=500,
    show_default=True,
    help="Messages in each room before the cut.",
)
@click.option(
    "--missed",
    # What one `joined` can hold: history.messages and history.page_messages.
    type=click.IntRange(0, 1000),
    default=100,
    show_default=True,
    help="Messages in each room between the cut and the return.",
)
@click.option(
    "--message-bytes",
    # A thousand of them and what the server adds fit history.bytes.
    type=click.IntRange(1, 500),
    default=64,
    show_default=True,
    help="Of the text alone.",
)
@runner.series_options(servers=_SERVERS, against=("greenroom_sqlite",))
def recovery(
    *,
    series: runner.Series,
    connections: int,
    rooms: int,
    history: int,
    missed: int,
    message_bytes: int,
) -> None:
    """Measure how soon clients have caught up that were all cut off and come back at once.

    Each comes back with its last offset and epoch, and has caught up when `joined` has told it every
    message it missed, in order and once. Times are from the common start of all.
    """
    if rooms > connections:
        raise click.BadParameter("there are more rooms than connections", param_hint="--rooms")
    machine.allow_connections(connections)
    workload = Workload(Crowd(connections, rooms, 0), history, missed, message_bytes)
    runner.run_alone(series, scenario_of(workload))
