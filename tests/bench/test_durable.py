"""`python -m bench durable`, whole, and that its publishers count what a server does wrong."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from outcome import capture
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from bench.load.client import Clients
from bench.load.publishers import Counted, Publishing
from bench.scenarios.durable import messages_per_commit

ROOT = Path(__file__).resolve().parents[2]
IN_FLIGHT = 4
PIN = "--pin" if len(os.sched_getaffinity(0)) > 1 else "--no-pin"


def test_a_small_run_is_measured_and_written_down(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "bench", "durable", "--rooms", "3", "--in-flight", "4", "--duration", "0.5",
            "--warm-up", "0.1", "--repeats", "1", "--against", "greenroom_sqlite", PIN,
            "--output", str(tmp_path / "durable.json"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    record: dict[str, Any] = json.loads((tmp_path / "durable-3x4.json").read_bytes())
    assert [run["server"] for run in record["runs"]] == ["greenroom", "greenroom_sqlite"]
    for run in record["runs"]:
        assert set(run["faults"].values()) == {0}
        figures = run["figures"]
        assert figures["acks_per_second"] > 0
        assert 0 < figures["ack_p50_ms"] <= figures["ack_p99_ms"]
    memory, sqlite = (run["figures"]["messages_per_commit"] for run in record["runs"])
    assert memory == 0
    assert sqlite > 1
    assert f"files on {record['parameters']['filesystem']}" in done.stdout


def test_messages_per_commit_are_those_of_the_measured_time() -> None:
    before = {"greenroom_engine_commits_total": 10.0, "greenroom_engine_messages_total": 10.0}
    after = {"greenroom_engine_commits_total": 14.0, "greenroom_engine_messages_total": 40.0}
    assert messages_per_commit(before, after) == 7.5
    assert messages_per_commit(after, after) == 0
    assert messages_per_commit({}, {}) == 0


async def serve(request: WebSocketRequest, *, fault: str) -> None:
    """Acknowledge and echo every chat, but do one wrong thing to the tenth."""
    ws = await request.accept()
    try:
        await ws.send_message('{"type":"joined","offset":0}')
        while True:
            asked = json.loads(await ws.get_message())
            offset = number = asked["id"]
            if number == 10:
                if fault == "silence":
                    continue
                if fault == "refusal":
                    await ws.send_message(json.dumps({"type": "error", "code": "rate_limited", "id": number}))
                if fault == "end":
                    await ws.aclose(1012)
                    return
            ack_offset = 1 if fault == "repeat" and number == 10 else offset
            if not (fault == "unheard" and number == 10):
                await ws.send_message(json.dumps({"type": "chat", "offset": offset}))
            await ws.send_message(json.dumps({"type": "ack", "id": number, "offset": ack_offset}))
    except ConnectionClosed:
        pass


def publish(port: int) -> tuple[Counted, int]:
    with Clients("127.0.0.1", port) as clients:
        clients.connect(0, "/ws/room")
        load = Publishing(clients, 1, in_flight=IN_FLIGHT, message_bytes=8)
        load.join(10.0)
        load.run(0.1, measured=False)
        load.run(0.2, measured=True)
        return load.counted, load.end(0.2)


@pytest.mark.parametrize(
    ("fault", "faults", "unacknowledged"),
    [
        ("none", {}, 0),
        # The chat is not told either, so the next one comes after a hole.
        ("silence", {"lost": 1}, 1),
        ("refusal", {"refused": 1}, 0),
        ("repeat", {"out_of_order": 1}, 0),
        ("unheard", {"lost": 1}, 0),
    ],
)
async def test_faults_are_counted_exactly(fault: str, faults: dict[str, int], unacknowledged: int) -> None:
    counted, waiting = await publish_to(fault)
    assert waiting == unacknowledged
    assert found(counted) == faults
    # What was under way when the measuring began or ended counts in one of the two only.
    assert counted.acks > 0
    assert len(counted.latencies_ns) == pytest.approx(counted.acks, abs=IN_FLIGHT)


async def test_an_end_is_counted_and_ends_the_run() -> None:
    counted, _ = await publish_to("end")
    assert found(counted) == {"disconnected": 1}


async def publish_to(fault: str) -> tuple[Counted, int]:
    async with trio.open_nursery() as nursery:
        handler = partial(serve, fault=fault)
        server = await nursery.start(
            partial(serve_websocket, handler, "127.0.0.1", 0, ssl_context=None, handler_nursery=nursery)
        )
        ended = await trio.to_thread.run_sync(capture, publish, server.port)
        nursery.cancel_scope.cancel()
    return ended.unwrap()


def found(counted: Counted) -> dict[str, int]:
    names = ("refused", "out_of_order", "lost", "disconnected")
    return {name: getattr(counted, name) for name in names if getattr(counted, name)}
