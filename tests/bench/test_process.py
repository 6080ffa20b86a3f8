"""A server under test is started, read and always stopped."""

import os
import sys
import time
from pathlib import Path

import pytest

from bench import process
from bench.errors import BenchError
from bench.servers import GREENROOMS
from bench.spec import Credentials, ServerSpec

BUSY_THEN_DEAF = """
import http.server, os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    while time.process_time() < 0.3: pass
    while True: signal.pause()
held = bytearray(64 << 20)
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Health).serve_forever()
"""


def spec_of(program: str) -> ServerSpec:
    return ServerSpec(
        name="a server",
        arguments=(sys.executable, "-c", program, "{port}"),
        environment={},
        ready_path="/",
    )


def is_running(pid: int) -> bool:
    """Whether it exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_deaf_server_and_its_children_are_read_and_then_killed() -> None:
    core = min(os.sched_getaffinity(0))
    with process.running(
        spec_of(BUSY_THEN_DEAF.replace("{", "{{").replace("}", "}}")), core=core, stop_seconds=0.1
    ) as server:
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
        [child] = map(int, children.read_text().split())
        while server.cpu_seconds() < 0.3:
            pass
        assert server.peak_bytes() > 64 << 20
        assert os.sched_getaffinity(server.pid) == {core}
    assert not is_running(server.pid)
    # The signal has been sent; the kernel ends a process that is not ours to wait for in its own time.
    deadline = time.monotonic() + 10
    while is_running(child):
        assert time.monotonic() < deadline


def test_a_server_that_ends_is_told_with_what_it_said() -> None:
    with (
        pytest.raises(BenchError, match=r"a server ended with status 3:\n.*no room here"),
        process.running(spec_of("import sys; print('no room here'); sys.exit(3)"), core=None),
    ):
        pass


def test_a_server_that_ends_without_a_word_is_told_in_one_line() -> None:
    with (
        pytest.raises(BenchError, match=r"\Aa server ended with status 3 and wrote nothing\Z"),
        process.running(spec_of("import sys; print(); sys.exit(3)"), core=None),
    ):
        pass


def test_a_server_that_does_not_answer_is_told() -> None:
    with (
        pytest.raises(BenchError, match=r"does not answer after 0\.3 s and wrote nothing\Z"),
        process.running(spec_of("import time; time.sleep(60)"), core=None, start_seconds=0.3),
    ):
        pass


def test_a_program_that_is_not_there_is_told() -> None:
    spec = ServerSpec(name="a server", arguments=("no-such-program",), environment={}, ready_path="/")
    with (
        pytest.raises(BenchError, match=r"a server cannot be started: .*no-such-program"),
        process.running(spec, core=None),
    ):
        pass


@pytest.mark.parametrize("name", sorted(GREENROOMS))
def test_every_greenroom_starts_with_its_files_in_a_directory_that_goes(name: str) -> None:
    spec = GREENROOMS[name](Credentials.make())
    with process.running(spec, core=None) as server:
        environment = Path(f"/proc/{server.pid}/environ").read_bytes().split(b"\0")
        engines = [value for value in environment if value.startswith(b"GREENROOM_SERVER__ENGINE=sqlite:")]
        files = [Path(os.fsdecode(value.partition(b"sqlite:///")[2])) for value in engines]
        assert [file.exists() for file in files] == [True] * ("sqlite" in name)
    assert not any(file.parent.exists() for file in files)
