"""The cases and their report: what an author of a client reads, and how a program is started, heard and ended."""

import json
import re
import socket
import sys
import time
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result
from trio.testing import memory_stream_pair
from trio_websocket import HandshakeError, wrap_client_stream

from broker.cli import main
from broker.conformance.cases import CASES
from broker.conformance.stage import Stage
from tests.conformance.memory import Surroundings, failed_cases
from tests.conformance.test_own_clients import DOCS, PROGRAM, ROOT
from tests.support.patience import PATIENCE_SECONDS


def kit(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["conformance", f"--timeout={PATIENCE_SECONDS}", *arguments])


def test_each_case_tests_a_sentence_of_the_reference() -> None:
    reference = " ".join((ROOT / "docs" / "reference.md").read_text().split())
    assert [case.name for case in CASES if case.rule not in reference] == []


def test_the_docs_list_every_case() -> None:
    assert re.findall(r"^\| `([a-z-]+)` \|", DOCS, re.MULTILINE) == [case.name for case in CASES]


def test_the_program_of_the_docs_passes_as_a_command(tmp_path: Path) -> None:
    program = tmp_path / "client_under_test.py"
    program.write_text(PROGRAM)
    result = kit("--only=chat", "--json", "--", sys.executable, str(program))
    assert result.exit_code == 0, result.stdout
    report = json.loads(result.stdout)
    assert (report["passed"], report["failed"]) == (1, 0)
    [case] = report["cases"]
    assert (case["name"], case["passed"]) == ("chat", True)


def test_a_failure_has_its_reason_and_what_was_sent(tmp_path: Path) -> None:
    """Of two programs at once, one of which leaves a child behind."""
    file = tmp_path / "child"
    program = f'sleep 1000 & echo $! >>{file}; echo \'{{"event": {{"text": "spam"}}}}\'; echo \'no client\' >&2; exit 3'
    result = kit("--only=chat", "--only=drop", "--", "sh", "-c", program)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert sorted(line.split()[:2] for line in lines[:2]) == [["FAILED", "chat"], ["FAILED", "drop"]]
    [chat, drop] = [case for case in CASES if case.name in {"chat", "drop"}]
    for case in (chat, drop):
        assert f"{case.name}: {case.rule}" in lines
    assert lines.count("  expected  a connection") == 2
    assert lines.count("  came      the end of the client's program (status 3: no client)") == 2
    assert sum(line.endswith('client\'s line: {"event": {"text": "spam"}}') for line in lines) == 2
    assert lines[-1] == "0 of 2 cases passed"
    # A killed process takes a moment to end on a busy machine.
    deadline = time.monotonic() + PATIENCE_SECONDS
    while still_there := [pid for pid in file.read_text().split() if is_running(int(pid))]:
        assert time.monotonic() < deadline, still_there
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether it exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_program_that_is_not_there_is_named() -> None:
    result = kit("--only=chat", "--", "/no/such/client")
    assert result.exit_code == 1
    assert "/no/such/client cannot be started: No such file or directory" in result.stdout


def test_usage_errors() -> None:
    assert kit("--only=drops").exit_code == 2
    assert kit("--timeout=soon").exit_code == 2


def test_a_taken_port_is_a_usage_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        result = kit("--only=chat", f"--port={port}")
    assert result.exit_code == 2
    assert f"greenroom: --port: cannot listen on 127.0.0.1:{port}: Address already in use" in result.stderr


async def ask(stage: Stage, request: bytes) -> bytes:
    """Send a request over HTTP and return the answer."""
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.serve, theirs)
        await ours.send_all(request)
        return b"".join([bytes(part) async for part in ours])


async def test_lines_and_tokens_go_over_http_as_well(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage(timeout_seconds=1.0, silence_seconds=1.0)
    lines = b'{"event": {"text": "one"}}\n{"gap": 1}\n{"event": {"text": "two"}}'
    answer = await ask(
        stage, b"POST /lines HTTP/1.1\r\nHost: kit\r\nContent-Length: %d\r\n\r\n%b" % (len(lines), lines)
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"Access-Control-Allow-Origin: *\r\n" in answer
    assert len(stage.handed) == 3
    tokens = {await ask(stage, b"GET /token HTTP/1.1\r\nHost: kit\r\n\r\n") for _ in range(3)}
    assert len(tokens) == 3
    assert (await ask(stage, b"GET /other HTTP/1.1\r\nHost: kit\r\n\r\n")).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    ("text", "came"),
    [
        ('{"type":"shout"}', "unknown_type"),
        ('{"type":"chat","text":5,"room":"conformance"}', "text: expected `str`, got `int`"),
        ("hello", "invalid_json"),
        ('{"type":"chat","text":"hi","room":"conformance"}', "before the room was joined"),
        ('{"type":"join","room":"lobby"}', "a request for the room 'lobby'"),
        ('{"type":"refresh","token":"x"}', "a refresh with a token that is not from the kit"),
    ],
)
async def test_a_message_that_no_server_accepts_fails_any_case(
    text: str, came: str, autojump_clock: trio.testing.MockClock
) -> None:
    async def run(surroundings: Surroundings) -> None:
        async with trio.open_nursery() as nursery:
            socket = await wrap_client_stream(
                nursery, await surroundings.dial(), "kit", f"/ws?token={surroundings.token}"
            )
            await socket.send_message(text)
            await trio.sleep_forever()

    for reason in (await failed_cases(CASES[:2], run)).values():
        assert "expected a client of greenroom.v1; came " in reason
        assert came in reason


@pytest.mark.parametrize(
    ("query", "came"), [("", "no token"), ("?token=x", "a token that is not from the kit")]
)
async def test_a_wrong_token_is_named(query: str, came: str, autojump_clock: trio.testing.MockClock) -> None:
    async def run(surroundings: Surroundings) -> None:
        stream = await surroundings.dial()
        async with trio.open_nursery() as nursery:
            with pytest.raises(HandshakeError):
                await wrap_client_stream(nursery, stream, "kit", f"/ws{query}")

    [reason] = (await failed_cases(CASES[:1], run)).values()
    assert came in reason
