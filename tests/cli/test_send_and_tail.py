"""The commands that talk to a server, as processes, against a server process."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import httpx2
import pytest

from tests.support.patience import PATIENCE_SECONDS
from tests.support.secrets import API_KEY, SECRET

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GREENROOM_SECRET": SECRET,
    "GREENROOM_API_KEY": API_KEY,
    "GREENROOM_SERVER__DRAIN_SECONDS": "0.1",
}
BROKER = [sys.executable, "-m", "broker"]


@contextmanager
def started(*arguments: str, **environment: str) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [*BROKER, *arguments],
        env={**os.environ, **ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_SECONDS)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*BROKER, *arguments],
        env={**os.environ, **ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@pytest.fixture
def server() -> Iterator[subprocess.Popen]:
    with started("serve", "--port", "0") as process:
        process.url = json.loads(process.stderr.readline())["url"]
        yield process


def test_tail_prints_sent_texts(server):
    with started("tail", "lobby", "--url", server.url) as tail:
        joined = json.loads(tail.stdout.readline())
        assert (joined["type"], joined["user_id"]) == ("user_joined", "cli")
        sent = run("send", "lobby", "hello", "--url", server.url)
        assert (sent.returncode, sent.stdout) == (0, "lobby 1\n")
        line = json.loads(tail.stdout.readline())
        assert (line["type"], line["text"]) == ("chat", "hello"), "who sends does not show as a member"
        assert run("send", "lobby", "hello", "--url", server.url).stdout == "lobby 2\n", (
            "said twice, as asked"
        )
        tail.send_signal(signal.SIGINT)
        assert tail.wait(timeout=PATIENCE_SECONDS) == 130
        assert "Traceback" not in tail.stderr.read()


def test_tail_with_tags_prints_what_matches(server):
    def publish(kind: str, **fields: object) -> None:
        response = httpx2.post(
            f"{server.url}/api/rooms/lobby/messages",
            params={"tags": json.dumps({"kind": kind})},
            json={"type": "note", "from": "ann", **fields},
            headers={"Authorization": f"Bearer {API_KEY}"},
        )
        assert response.status_code == 200, response.text

    for number, kind in enumerate(["goal", "other", "card", "goal"]):
        publish(kind, n=number)
    options = ("-n", "2", "--tags", "kind=goal", "--tags", "kind=card", "--url", server.url)
    with started("tail", "lobby", *options) as tail:
        lines = [json.loads(tail.stdout.readline()) for _ in range(3)]
        assert [line.get("n", line["type"]) for line in lines] == [2, 3, "user_joined"]
        for number, kind in enumerate(["other", "goal"], 4):
            publish(kind, n=number)
        assert json.loads(tail.stdout.readline())["n"] == 5
    for odd in ("kind", "=goal", "kind="):
        assert run("tail", "lobby", "--tags", odd, "--url", server.url).returncode == 2


def test_tail_skips_unreadable_messages(tmp_path):
    engine = f"sqlite:///{tmp_path}/rooms.db"
    with started("serve", "--port", "0", "--engine", engine) as server:
        url = json.loads(server.stderr.readline())["url"]
        for text in "abc":
            assert run("send", "lobby", text, "--url", url).returncode == 0
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=PATIENCE_SECONDS) == 0
    with closing(sqlite3.connect(tmp_path / "rooms.db")) as file:
        # As a server let it in that asked for less.
        poison = b'{"type":"event","event":"e","user_id":"eve","data":1e400}'
        assert file.execute("UPDATE events SET content = ? WHERE offset = 2", (poison,)).rowcount == 1
        file.commit()
    with started("serve", "--port", "0", "--engine", engine) as server:
        url = json.loads(server.stderr.readline())["url"]
        with started("tail", "lobby", "-n", "3", "--url", url) as tail:
            lines = [json.loads(tail.stdout.readline()) for _ in range(3)]
            assert [line["type"] for line in lines] == ["chat", "gap", "chat"]
            assert (lines[1]["from"], lines[1]["to"]) == (2, 2)
            assert run("send", "lobby", "d", "--url", url).stdout == "lobby 4\n"
            while (line := json.loads(tail.stdout.readline()))["type"] != "chat":
                pass
            assert line["text"] == "d"


def test_tail_reconnects_and_prints_the_missed_events(server):
    """The server cuts the connection (41xx and below 4000 mean: come back) while things are said."""
    token = run("token", "--user", "ann", "--ttl", "15").stdout.strip()
    with started("tail", "lobby", "--url", server.url, "--token", token) as tail:
        assert json.loads(tail.stdout.readline())["type"] == "user_joined"
        # The token runs out: 4101 asks to come back, and then 4001 says that this token never will.
        assert tail.wait(timeout=PATIENCE_SECONDS) == 1
        problems = tail.stderr.read()
        assert "token expired (4101); again in" in problems
        assert "(4001)" in problems


def test_tail_obeys_a_signal_while_its_reader_stands_still(server):
    reading, writing = os.pipe()
    end = os.open(f"/proc/self/fd/{writing}", os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(end, b"x")
    command = [*BROKER, "tail", "lobby", "--url", server.url]
    tail = subprocess.Popen(command, env={**os.environ, **ENVIRONMENT}, stdout=writing)
    try:
        key = {"Authorization": f"Bearer {ENVIRONMENT['GREENROOM_API_KEY']}"}
        while httpx2.get(f"{server.url}/api/rooms/lobby", headers=key).json()["room_size"] == 0:
            assert tail.poll() is None
        # It is in the room, and on its way to write that to a full pipe.
        tail.terminate()
        assert tail.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM
    finally:
        tail.kill()
        tail.wait(PATIENCE_SECONDS)
        for descriptor in (reading, writing, end):
            os.close(descriptor)


def test_tail_begins_with_earlier_events(server):
    for number in range(3):
        assert run("send", "lobby", f"{number}", "--url", server.url).returncode == 0
    with started("tail", "lobby", "-n", "2", "--url", server.url) as tail:
        lines = [json.loads(tail.stdout.readline()) for _ in range(3)]
        assert [line.get("text") for line in lines] == ["1", "2", None]
        assert lines[2]["type"] == "user_joined"


def test_the_same_id_is_said_once(server):
    for _ in range(2):
        assert run("send", "lobby", "hello", "--id", "x1", "--url", server.url).stdout == "lobby 1\n"


def test_a_refusal_is_one_line_and_status_1(server):
    refused = run("send", "user_somebody", "hello", "--url", server.url)
    assert refused.returncode == 1
    assert refused.stderr.startswith("greenroom: ")
    assert "(forbidden)" in refused.stderr
    assert refused.stderr.count("\n") == 1
    token = run("token", "--user", "ann", "--can", "join").stdout.strip()
    mute = run("send", "lobby", "hello", "--url", server.url, GREENROOM_TOKEN=token)
    assert mute.returncode == 1
    assert "(forbidden)" in mute.stderr


def test_no_server_is_one_line_and_status_1(unused_port):
    lost = run("send", "lobby", "hello", "--url", f"http://127.0.0.1:{unused_port}")
    assert lost.returncode == 1
    assert lost.stderr.count("\n") == 1
    assert lost.stderr == f"greenroom: cannot connect to 127.0.0.1:{unused_port}: connection refused\n"


@pytest.mark.parametrize("command", [["send", "lobby", "hello"], ["tail", "lobby"]])
def test_without_a_secret_the_error_is_one_line_with_a_remedy(command):
    lost = run(*command, GREENROOM_SECRET="")
    assert (lost.returncode, lost.stdout) == (2, "")
    what = "put the server's secret into GREENROOM_SECRET, or give --token / GREENROOM_TOKEN"
    assert lost.stderr == f"greenroom: auth.secret: not set; {what}\n"


def test_an_invalid_server_address_is_a_usage_error():
    wrong = run("send", "lobby", "hello", "--url", "localhost")
    assert wrong.returncode == 2
    assert "is no http" in wrong.stderr


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
