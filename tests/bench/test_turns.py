"""`python -m bench turns`, whole but small."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.scenarios.turns import METRICS

ROOT = Path(__file__).resolve().parents[2]
PIN = "--pin" if len(os.sched_getaffinity(0)) > 1 else "--no-pin"


def test_a_small_run_is_measured_and_its_room_is_back_after_a_kill(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "bench", "turns", "--server", "greenroom_sqlite", "--against", "greenroom_sqlite",
            "--rooms", "3", "--duration", "0.2", "--warm-up", "0.1", "--repeats", "1", PIN,
            "--output", str(tmp_path / "turns.json"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    record: dict[str, Any] = json.loads((tmp_path / "turns.json").read_bytes())
    [run] = record["runs"]
    assert set(run["faults"].values()) == {0}
    assert all(run["figures"][metric.name] > 0 for metric in METRICS)
    assert run["figures"]["call_p50_ms"] <= run["figures"]["call_p99_ms"]
