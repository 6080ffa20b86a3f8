"""A server under test: a process of its own, on one core, that is always stopped and reaped."""

import http.client
import os
import resource
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import IO

import attrs

from bench import machine, procfs
from bench.certificates import make_pair
from bench.errors import BenchError, last_lines
from bench.redis import RunningRedis, running_redis
from bench.spec import ServerSpec

HOST = machine.HOST
_ROOT = Path(__file__).resolve().parent.parent
_POLL_SECONDS = 0.05


@attrs.frozen
class RunningServer:
    """A server that answers on `HOST`:`port`."""

    spec: ServerSpec
    port: int
    pid: int
    redis: RunningRedis | None = None
    """The Redis that was started for it, if it needs one."""

    def cpu_seconds(self) -> float:
        """Return the CPU time used up to now, its child processes included; exact to 10 ms."""
        return procfs.cpu_seconds(self.pid)

    def peak_bytes(self) -> int:
        """Return the most memory it has held, its child processes included."""
        return procfs.peak_resident_bytes(self.pid)

    def resident_bytes(self) -> int:
        """Return the memory it holds now, its child processes included."""
        return procfs.resident_bytes(self.pid)


@contextmanager
def running(
    spec: ServerSpec,
    *,
    core: int | None,
    redis_core: int | None = None,
    start_seconds: float = 60.0,
    stop_seconds: float = 5.0,
) -> Iterator[RunningServer]:
    """Start the server on a free port, with the Redis that it needs, and yield it once it answers.

    On leaving, however that comes about, it gets SIGTERM and, if it is still there `stop_seconds` later,
    SIGKILL with all its children; it is gone when this returns, and its directory with it.

    :raises BenchError: if it needs a disk or a Redis and there is none, or if it ends or does not answer within
        `start_seconds`; the message ends with the last lines it wrote.
    """
    port = _free_port()
    with (
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryDirectory(dir=machine.disk() if spec.needs_disk else None) as directory,
        running_redis(core=redis_core) if spec.needs_redis else nullcontext() as redis,
    ):
        certificate, key = make_pair(Path(directory)) if spec.speaks_tls else ("", "")
        fill = {
            "port": port,
            "directory": directory,
            "redis": redis.url if redis else "",
            "certificate": certificate,
            "key": key,
        }
        process = _start(spec, fill, output)
        try:
            # Until it is waited for its number stays its own, even if it has ended already.
            _prepare(process.pid, core)
            _wait_until_it_answers(spec, port, process, output, start_seconds)
            yield RunningServer(spec=spec, port=port, pid=process.pid, redis=redis)
        finally:
            _stop(process, stop_seconds)


@attrs.define(eq=False)
class Node:
    """One server that is stopped and started again, on another port each time."""

    spec: ServerSpec
    core: int | None
    stop_seconds: float
    server: RunningServer | None = None
    _stack: ExitStack = attrs.Factory(ExitStack)

    @property
    def port(self) -> int | None:
        """Its port, None if it does not run."""
        return None if self.server is None else self.server.port

    def start(self) -> RunningServer:
        """Start it, and block until it is ready."""
        running_server = running(self.spec, core=self.core, stop_seconds=self.stop_seconds)
        self.server = self._stack.enter_context(running_server)
        return self.server

    def stop(self) -> None:
        """Let it drain, if it runs, and block until it has ended."""
        self._stack.close()
        self.server = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _start(spec: ServerSpec, fill: Mapping[str, object], output: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [argument.format_map(fill) for argument in spec.arguments],
            cwd=_ROOT,
            env=os.environ | {name: value.format_map(fill) for name, value in spec.environment.items()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise BenchError(f"{spec.name} cannot be started: {error}") from error


def _prepare(pid: int, core: int | None) -> None:
    _, most_files = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most_files, most_files))
    if core is not None:
        # Threads started from now on inherit it; the interpreter has not come to start any.
        os.sched_setaffinity(pid, {core})


def _wait_until_it_answers(
    spec: ServerSpec, port: int, process: subprocess.Popen[bytes], output: IO[bytes], seconds: float
) -> None:
    deadline = time.monotonic() + seconds
    while not (_answers(spec, port, spec.ready_path) and _is_whole(spec, port)):
        if process.poll() is not None:
            raise BenchError(f"{spec.name} ended with status {process.returncode}{_tail(output)}")
        if time.monotonic() > deadline:
            raise BenchError(f"{spec.name} does not answer after {seconds:g} s{_tail(output)}")
        time.sleep(_POLL_SECONDS)


def _is_whole(spec: ServerSpec, port: int) -> bool:
    return spec.whole_path is None or _answers(spec, port, spec.whole_path)


def _answers(spec: ServerSpec, port: int, path: str | None) -> bool:
    if path is None:
        return _accepts(port)
    if spec.speaks_tls:
        # Its certificate is of this run, on loopback.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            HOST, port, timeout=1.0, context=context
        )
    else:
        connection = http.client.HTTPConnection(HOST, port, timeout=1.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _tail(output: IO[bytes]) -> str:
    output.seek(0)
    return last_lines(output.read().decode(errors="replace"))


def _stop(process: subprocess.Popen[bytes], seconds: float) -> None:
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        # Not reaped yet, so its number still names the session it was started in.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
