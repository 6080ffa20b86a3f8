"""`notify`: how many messages a second a service can push into a room over HTTP."""

import os
import time
from collections.abc import Callable
from contextlib import closing

import attrs
import click
import jwt

from bench import process, runner
from bench.load.posting import Listener, Notifier, Posting, Stream, connect, join
from bench.process import RunningServer
from bench.report import Metric, Run, quantile
from bench.rig import Rig
from bench.servers import GREENROOMS
from bench.spec import ServerSpec
from bench.usage import CpuTimes, latency_buckets, on_core, worst_shares

_USER = "7"
_MEMBERS = 10
_LINES_AT_ONCE = 128
_SETTLE_SECONDS = 0.5
_TOKEN_SECONDS = 3600
_SERVERS = (*GREENROOMS, "fastapi_seed")

METRICS = (
    Metric("posts_per_second", "posts/s", better=1),
    Metric("posts_per_cpu_second", "posts per CPU-s", better=1),
    Metric("post_p50_ms", "p50 ms", better=-1, decimals=2),
    Metric("post_p99_ms", "p99 ms", better=-1, decimals=2),
    # 0 where there is no such call.
    Metric("lines_per_second", "lines/s"),
    Metric("lines_per_cpu_second", "lines per CPU-s"),
)


@attrs.frozen
class Counted:
    """The counts of one way of notifying in the measured time."""

    answered: int
    seconds: float
    used: CpuTimes
    latency_ns: list[tuple[int, int]]
    lost: int

    def shares(self) -> dict[str, float]:
        """Return the figures of `usage.SHARES`."""
        return self.used.shares(generator_seconds=self.used.own, seconds=self.seconds)


@attrs.frozen
class Notify:
    """Everything that one run of the scenario needs but the server."""

    rig: Rig
    connections: int
    members: int
    warm_up_seconds: float
    duration_seconds: float

    def measure(self, spec: ServerSpec, repeat: int) -> Run:
        """Start the server, post to it, then stream to it if it can, and return what was counted.

        :raises BenchError: if the server does not start, refuses, or ends a connection.
        """
        load_average = os.getloadavg()[0]
        with process.running(spec, core=self.rig.pins.server) as server, on_core(self.rig.pins.generator):
            posts = self._count(server, lambda posting: self._add_notifiers(server, posting))
            lines = None
            if spec.name in GREENROOMS:
                lines = self._count(server, lambda posting: posting.add_stream(self._stream(server)))
        figures = {
            "posts_per_second": posts.answered / posts.seconds,
            "posts_per_cpu_second": posts.answered / posts.used.server,
            "post_p50_ms": quantile(posts.latency_ns, 0.50) / 1e6,
            "post_p99_ms": quantile(posts.latency_ns, 0.99) / 1e6,
            "lines_per_second": lines.answered / lines.seconds if lines else 0.0,
            "lines_per_cpu_second": lines.answered / lines.used.server if lines else 0.0,
        }
        return Run(
            server=spec.name,
            repeat=repeat,
            load_average=load_average,
            figures=figures | worst_shares(known.shares() for known in (posts, lines) if known),
            faults={"lost": posts.lost + (lines.lost if lines else 0)},
            latency_ns=posts.latency_ns,
        )

    def _count(self, server: RunningServer, begin: Callable[[Posting], None]) -> Counted:
        members = self._members(server)
        with closing(Posting(members)) as posting:
            begin(posting)
            posting.run(self.warm_up_seconds)
            posting.latencies_ns.clear()
            answered, before = posting.answered, CpuTimes.now(server)
            seconds = posting.run(self.duration_seconds)
            used, counted = CpuTimes.now(server).since(before), posting.answered - answered
            latency_ns = latency_buckets(posting.latencies_ns)
            # What was answered in the end must have been heard by everyone; they may still be reading.
            due = posting.answered
            posting.run(_SETTLE_SECONDS)
            lost = sum(max(0, due - member.heard) for member in members)
        return Counted(counted, seconds, used, latency_ns, lost)

    def _members(self, server: RunningServer) -> list[Listener]:
        # The article notifies the room of a user, and Greenroom lets nobody else into it.
        claims = {"sub": _USER, "exp": int(time.time()) + _TOKEN_SECONDS}
        token = jwt.encode(claims, self.rig.credentials.secret, algorithm="HS256")
        target = f"/ws/user_{_USER}?token={token}"
        return [join(process.HOST, server.port, target, b'"order_update"') for _ in range(self.members)]

    def _add_notifiers(self, server: RunningServer, posting: Posting) -> None:
        request = self._request(server)
        for _ in range(self.connections):
            posting.add_notifier(Notifier(connect(process.HOST, server.port), request))

    def _request(self, server: RunningServer) -> bytes:
        host = f"Host: {process.HOST}:{server.port}\r\n"
        if server.spec.name not in GREENROOMS:
            return f"POST /orders/{_USER}/status?status=shipped HTTP/1.1\r\n{host}Content-Length: 0\r\n\r\n".encode()
        body = f'{{"type":"order_update","order_id":"{_USER}","status":"shipped"}}'
        return (
            f"POST /api/rooms/user_{_USER}/messages HTTP/1.1\r\n{host}"
            f"Authorization: Bearer {self.rig.credentials.api_key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()

    def _stream(self, server: RunningServer) -> Stream:
        head = (
            f"POST /api/messages HTTP/1.1\r\nHost: {process.HOST}:{server.port}\r\n"
            f"Authorization: Bearer {self.rig.credentials.api_key}\r\nContent-Type: application/x-ndjson\r\n"
            "Transfer-Encoding: chunked\r\n\r\n"
        )
        line = (
            f'{{"room":"user_{_USER}","message":'
            f'{{"type":"order_update","order_id":"{_USER}","status":"shipped"}}}}\n'
        )
        return Stream(
            connect(process.HOST, server.port), head.encode(), line.encode(), b'"offset"', _LINES_AT_ONCE
        )


def scenario_of(
    connections: int, members: int, *, warm_up_seconds: float, duration_seconds: float
) -> runner.Scenario:
    """Return the scenario with this load."""
    return runner.Scenario(
        name="notify",
        title=(
            f"notify: posts to a room of {members} on {connections} kept connections, then a stream of lines "
            f"with {_LINES_AT_ONCE} not answered; {duration_seconds:g} s measured of each"
        ),
        parameters={
            "connections": connections,
            "members": members,
            "duration_seconds": duration_seconds,
        },
        metrics=METRICS,
        prepare=lambda rig: Notify(rig, connections, members, warm_up_seconds, duration_seconds).measure,
        servers=_SERVERS,
    )


@click.command()
@click.option("--connections", type=click.IntRange(1, 1000), default=4, show_default=True)
@click.option("--members", type=click.IntRange(0, 1000), default=_MEMBERS, show_default=True)
@runner.time_options(duration=3.0, warm_up=0.5)
@runner.series_options(servers=_SERVERS)
def notify(*, series: runner.Series, connections: int, members: int, duration: float, warm_up: float) -> None:
    """Count messages pushed into a room over HTTP: a post each, and lines of one endless request.

    Each connection posts when its last post was answered. The FastAPI room is posted an order's status, as in
    the article; it has no call that takes many messages.
    """
    runner.run_alone(
        series, scenario_of(connections, members, warm_up_seconds=warm_up, duration_seconds=duration)
    )
