"""`python -m bench fanout`, whole: a real server, a real load, nothing lost."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
BASELINE = all(find_spec(name) for name in ("fastapi", "uvicorn", "uvloop", "websockets", "jose"))
PIN = "--pin" if len(os.sched_getaffinity(0)) > 1 else "--no-pin"


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler (cc)")
def test_a_small_fanout_is_measured_and_written_down(tmp_path: Path) -> None:
    server = "fastapi_seed" if BASELINE else "greenroom"
    output = tmp_path / "deep" / "fanout.json"
    done = bench(
        "fanout", "--server", server, "--connections", "20", "--rooms", "2", "--duration", "1",
        "--warm-up", "0.2", "--repeats", "1", "--output", str(output), PIN,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    record: dict[str, Any] = json.loads(output.read_bytes())
    assert record["scenario"] == "fanout"
    assert record["parameters"]["crowd"] == {"connections": 20, "rooms": 2, "publishers": 1}
    [run] = record["runs"]
    assert run["server"] == server
    assert set(run["faults"].values()) == {0}
    figures = run["figures"]
    assert figures["deliveries_per_second"] > 0
    assert figures["deliveries_per_cpu_second"] > 0
    assert 0 < figures["latency_p50_ms"] <= figures["latency_p99_ms"] <= figures["latency_max_ms"]
    assert f"{figures['deliveries_per_second']:,.0f}" in done.stdout


def test_more_rooms_than_connections_are_refused() -> None:
    done = bench("fanout", "--connections", "1", "--rooms", "2", "--no-pin")
    assert done.returncode == 2
    assert "more rooms than connections" in done.stderr


@pytest.mark.parametrize(
    "scenario", ["fanout", "latency", "echo", "connect", "scaling", "stalled", "fairness", "large", "cluster"]
)
def test_a_missing_compiler_is_told_in_one_line_before_a_server_is_started(
    scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    # The servers are started with it; each would fail with another error.
    monkeypatch.setattr(sys, "executable", "no-such-python")
    done = CliRunner().invoke(main, [scenario, "--no-pin"], prog_name="python -m bench")
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: the load generator is written in C")
