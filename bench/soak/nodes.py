"""The processes of the soak: the server under test, a node beside it that is drained again and again, and what they need."""

import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import trio

from bench import process
from bench.machine import HOST
from bench.process import RunningServer
from bench.soak.visits import World
from bench.spec import Credentials, ServerSpec

DRAIN_SECONDS = 1.0
_STOP_SECONDS = 30.0
_WEBHOOK_SECRET = "whsec_" + "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXowMTIzNDU="  # of this benchmark alone

_SETTINGS = """
[server]
drain_seconds = {drain}
[websocket]
ping_seconds = 2
pong_seconds = 2
close_seconds = 1
outbox_bytes = 65536
[http]
keep_alive_seconds = 2
head_seconds = 2
[limits]
accepts_burst = 100000
messages_per_second = 100000
[history]
messages = 200
idempotency_seconds = 5
[redis]
lease_seconds = 3
[room]
idle_seconds = 1
[log]
level = "error"
[[webhooks]]
name = "soak"
url = "{receiver}"
secret = "{secret}"
hold_back_seconds = 0
"""


class _Receiver(BaseHTTPRequestHandler):
    """Takes most batches of webhooks; every fourth is refused, or its connection cut."""

    protocol_version = "HTTP/1.1"
    batches = 0

    def do_POST(self) -> None:
        """Answer one batch."""
        self.rfile.read(int(self.headers.get("content-length", 0)))
        _Receiver.batches += 1
        if _Receiver.batches % 8 == 0:
            self.close_connection = True
            return
        self.send_response(503 if _Receiver.batches % 8 == 4 else 204)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@contextmanager
def running_receiver() -> Iterator[str]:
    """Run the receiver of webhooks in threads; gives its URL."""
    with ThreadingHTTPServer((HOST, 0), _Receiver) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://{HOST}:{server.server_address[1]}/"
        finally:
            server.shutdown()


@contextmanager
def settings_file(receiver: str) -> Iterator[Path]:
    """Write the settings of both nodes to a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "soak.toml")
        path.write_text(
            _SETTINGS.format(drain=DRAIN_SECONDS, receiver=receiver, secret=_WEBHOOK_SECRET), encoding="utf-8"
        )
        yield path


def spec_of(name: str, program: tuple[str, ...], redis_url: str, credentials: Credentials) -> ServerSpec:
    """Return how a node is started."""
    environment = {
        "GREENROOM_SECRET": credentials.secret,
        "GREENROOM_API_KEY": credentials.api_key,
        "GREENROOM_SERVER__ENGINE": redis_url,
        "GREENROOM_SERVER__PORT": "{port}",
    }
    return ServerSpec(name, (sys.executable, "-m", *program), environment, "/ready")


async def drain_again_and_again(spec: ServerSpec, world: World, is_over: trio.Event, seconds: float) -> None:
    """Run a node for `seconds`, drain it with its clients, and start another in its place.

    :raises BenchError: if one does not start.
    """
    while not is_over.is_set():
        stop = threading.Event()
        is_started = trio.Event()
        ports: list[int] = []

        def note(node: RunningServer, ports: list[int] = ports, is_started: trio.Event = is_started) -> None:
            ports.append(node.port)
            is_started.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_run_until, spec, stop, note)
            try:
                await is_started.wait()
                world.nodes += ports
                with trio.move_on_after(seconds):
                    await is_over.wait()
                world.nodes.remove(*ports)
            finally:
                stop.set()
        world.done["drained"] += 1


async def _run_until(
    spec: ServerSpec, stop: threading.Event, on_started: Callable[[RunningServer], None]
) -> None:
    def run() -> None:
        with process.running(spec, core=None, stop_seconds=_STOP_SECONDS) as node:
            trio.from_thread.run_sync(on_started, node)
            stop.wait()

    await trio.to_thread.run_sync(run)
