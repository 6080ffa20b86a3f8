"""`greenroom top`, as a process: in a pipe, and on a terminal of its own."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import pytest

from tests.cli.test_send_and_tail import BROKER, ENVIRONMENT, run, server, started, unused_port
from tests.support.patience import PATIENCE_SECONDS

__all__ = ["server", "unused_port"]


def test_in_a_pipe_it_prints_json_lines_once(server):
    with started("tail", "lobby", "--url", server.url) as tail:
        tail.stdout.readline()
        run("send", "lobby", "hello", "--url", server.url)
        top = run("top", "--url", server.url, "--interval", "0.1")
        assert top.returncode == 0, top.stderr
        (row,) = [json.loads(line) for line in top.stdout.splitlines()]
        assert len(row.pop("epoch")) > 5
        assert row == {"room": "lobby", "room_size": 1, "offset": 1, "per_second": 0.0}
        assert run("top", "--url", server.url, "--prefix", "x", "--interval", "0.1").stdout == ""


def test_an_error_is_one_line(server, unused_port):
    refused = run("top", "--url", server.url, GREENROOM_API_KEY="another-key-for-tests-01234")
    assert (refused.returncode, refused.stdout) == (1, "")
    why = "the API key is wrong; put the server's into GREENROOM_API_KEY"
    assert refused.stderr == f"greenroom: the server answered with status 401: {why}\n"
    lost = run("top", "--url", f"http://127.0.0.1:{unused_port}")
    assert lost.returncode == 1
    assert lost.stderr == f"greenroom: cannot connect to 127.0.0.1:{unused_port}: connection refused\n"
    keyless = run("top", "--url", server.url, GREENROOM_API_KEY="")
    assert keyless.returncode == 2
    assert "GREENROOM_API_KEY" in keyless.stderr


@attrs.define
class Terminal:
    """A process on a terminal, and all it has written there."""

    process: subprocess.Popen
    master: int
    written: str = ""

    def until(self, mark: str) -> None:
        while mark not in self.written:
            assert self.read(), f"ended without {mark!r}: {self.written!r}"

    def rest(self) -> str:
        """Return what it writes from now to its end."""
        start = len(self.written)
        while self.read():
            pass
        return self.written[start:]

    def read(self) -> bool:
        try:
            received = os.read(self.master, 65_536)
        except OSError:
            # Linux: the other end is closed.
            return False
        self.written += received.decode(errors="replace")
        return bool(received)


@contextmanager
def on_terminal(*arguments: str) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    environment = {**os.environ, **ENVIRONMENT, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen(
        [*BROKER, *arguments], stdout=slave, stderr=slave, stdin=slave, env=environment
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait(timeout=PATIENCE_SECONDS)
        os.close(master)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_on_a_terminal_it_goes_on_and_puts_the_terminal_back(server, how):
    run("send", "lobby", "hello", "--url", server.url)
    with on_terminal("top", "--url", server.url, "--interval", "0.1") as terminal:
        terminal.until("lobby")
        assert "\x1b[?1049h" in terminal.written, "the other screen"
        assert "1 room " in terminal.written
        run("send", "[bold]x", "hello", "--url", server.url)
        terminal.until("[bold]x")
        terminal.process.send_signal(how)
        rest = terminal.rest()
        assert "\x1b[?1049l" in rest, "the screen that was there before"
        assert "\x1b[?25h" in rest, "the cursor"
        assert "Traceback" not in rest
        assert terminal.process.wait(timeout=PATIENCE_SECONDS) == 128 + how


def test_it_outlasts_a_server_that_is_away(server):
    with on_terminal("top", "--url", server.url, "--interval", "0.1") as terminal:
        terminal.until("0 rooms")
        server.kill()
        terminal.until("refused")
        assert terminal.process.poll() is None


def test_once_on_a_terminal_is_a_table(server):
    run("send", "lobby", "hello", "--url", server.url)
    with on_terminal("top", "--once", "--url", server.url, "--interval", "0.1") as terminal:
        assert terminal.process.wait(timeout=PATIENCE_SECONDS) == 0
        rest = terminal.rest()
        assert "lobby" in rest
        assert "\x1b[?1049h" not in rest


def test_rich_is_imported_only_for_tables():
    program = "import sys, broker.cli.top, broker.cli.tail, broker.cli.send; print('rich' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    )
    assert ran.stdout == "False\n"
