"""`python -m bench recovery`, whole, and that what clients are told at their return is checked."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.load.returning import Note, Position, Told, faults_of, return_target

ROOT = Path(__file__).resolve().parents[2]
PIN = "--pin" if len(os.sched_getaffinity(0)) > 1 else "--no-pin"
KNOWN = Position(offset=7, epoch="e", number=5)


def test_a_small_run_is_measured_and_written_down(tmp_path: Path) -> None:
    output = tmp_path / "recovery.json"
    done = subprocess.run(
        [
            sys.executable, "-m", "bench", "recovery", "--connections", "12", "--rooms", "3", "--history", "5",
            "--missed", "4", "--repeats", "1", PIN, "--output", str(output),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    record: dict[str, Any] = json.loads(output.read_bytes())
    assert [run["server"] for run in record["runs"]] == ["greenroom", "greenroom_sqlite"]
    for run in record["runs"]:
        assert set(run["faults"].values()) == {0}
        assert sum(count for _, count in run["latency_ns"]) == 12
        figures = run["figures"]
        assert 0 < figures["back_p50_ms"] <= figures["back_p99_ms"]
        assert figures["joins_per_second"] > 0


def test_more_missed_than_the_history_holds_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The benchmark's own variables win; this one it leaves alone.
    monkeypatch.setenv("GREENROOM_HISTORY__MESSAGES", "3")
    done = subprocess.run(
        [
            sys.executable, "-m", "bench", "recovery", "--connections", "2", "--rooms", "1", "--missed", "4",
            "--repeats", "1", "--against", "greenroom", PIN, "--output", str(tmp_path / "recovery.json"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "2 not recovered, 8 lost" in done.stdout


@pytest.mark.parametrize(
    ("told", "lost", "repeated"),
    [
        ([(8, 6), (9, 7), (10, 8)], 0, 0),
        ([], 3, 0),
        ([(8, 6), (10, 8)], 1, 0),
        ([(8, 6), (8, 6), (9, 7), (10, 8)], 0, 1),
        ([(7, 5), (8, 6), (9, 7), (10, 8)], 0, 1),
        # In the wrong order, or with another's offset, nothing counts as told.
        ([(9, 7), (8, 6), (10, 8)], 3, 3),
        ([(8, 7), (9, 8), (10, 9)], 3, 3),
    ],
)
def test_every_missed_note_is_told_once_and_in_order(
    told: list[tuple[int, int]], lost: int, repeated: int
) -> None:
    joined = Told("joined", messages=[Note(offset, number) for offset, number in told])
    assert faults_of(joined, KNOWN, 3) == (lost, repeated)


def test_a_position_is_put_into_the_query() -> None:
    position = Position(offset=7, epoch="a&b", number=5)
    assert return_target("/ws/r?token=t", position) == "/ws/r?token=t&offset=7&epoch=a%26b"
