"""The scenarios, whole but small: a real server, a real load, figures that can be."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bench.baselines.specs import BASELINES
from bench.errors import BenchError
from bench.spec import Credentials

ROOT = Path(__file__).resolve().parents[2]
PIN = "--pin" if len(os.sched_getaffinity(0)) > 1 else "--no-pin"
SHORT = ("--duration", "0.5", "--warm-up", "0.2")

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler (cc)")


def run_of(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """Run a scenario once, and return the run."""
    output = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments, "--repeats", "1", PIN, "--output", str(output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [run] = json.loads(output.read_bytes())["runs"]
    assert set(run["faults"].values()) == {0}
    return dict(run["figures"])


def test_echo(tmp_path: Path) -> None:
    figures = run_of(tmp_path, "echo", "--connections", "5", *SHORT)
    assert figures["pongs_per_second"] > 0
    assert 0 < figures["latency_p50_ms"] <= figures["latency_p99_ms"] <= figures["latency_max_ms"]


def test_connect(tmp_path: Path) -> None:
    figures = run_of(tmp_path, "connect", "--connections", "100", "--rooms", "10", "--rest", "0.3")
    assert figures["joins_per_second"] > 0
    assert 0 < figures["memory_per_member_kib"] < 1024


def test_latency(tmp_path: Path) -> None:
    figures = run_of(tmp_path, "latency", "--shape", "f2", "--connections", "200", *SHORT)
    assert figures["rate"] == pytest.approx(figures["top_rate"] / 2, rel=0.3)
    assert 0 < figures["latency_p50_ms"] <= figures["latency_p99_ms"] <= figures["latency_max_ms"]


def test_stalled(tmp_path: Path) -> None:
    figures = run_of(tmp_path, "stalled", "--members", "20", "--stalled", "2", *SHORT)
    assert figures["deliveries_per_second"] > 0
    assert figures["kept_share"] > 0


def test_fairness(tmp_path: Path) -> None:
    figures = run_of(tmp_path, "fairness", "--huge-members", "50", *SHORT)
    for disturbed in ("huge", "flood", "history"):
        assert figures[f"{disturbed}_per_second"] > 0
        assert figures[f"{disturbed}_p99_ms"] > 0


def test_large(tmp_path: Path) -> None:
    figures = run_of(tmp_path, "large", "--duration", "0.3", "--warm-up", "0.1")
    assert 0 < figures["crumbs_p99_ms"] <= figures["crumbs_max_ms"]


def test_notify(tmp_path: Path) -> None:
    figures = run_of(tmp_path, "notify", *SHORT)
    assert figures["posts_per_second"] > 0
    assert figures["lines_per_second"] > 0


@pytest.mark.parametrize(
    ("server", "modules"),
    [
        ("c_epoll", ()),
        ("websockets_broadcast", ("websockets", "uvloop")),
        ("picows_rooms", ("picows", "uvloop")),
        ("socketio_rooms", ("socketio", "uvicorn", "uvloop")),
    ],
)
def test_a_baseline_delivers_everything_once(tmp_path: Path, server: str, modules: tuple[str, ...]) -> None:
    if not all(find_spec(module) for module in modules):
        pytest.skip(f"{modules} are not installed")
    figures = run_of(
        tmp_path,
        "fanout",
        "--server",
        server,
        "--connections",
        "60",
        "--rooms",
        "20",
        "--in-flight",
        "3",
        *SHORT,
    )
    assert figures["deliveries_per_second"] > 0


@pytest.mark.parametrize("server", ["greenroom_redis", "centrifugo", "centrifugo_redis"])
def test_a_server_through_redis_and_centrifugo_deliver_everything_once(tmp_path: Path, server: str) -> None:
    if server.startswith("centrifugo") and shutil.which("centrifugo") is None:
        pytest.skip("centrifugo is not on the PATH")
    load = ("--connections", "60", "--rooms", "20", "--in-flight", "3", *SHORT)
    figures = run_of(tmp_path, "fanout", "--server", server, *load)
    assert figures["deliveries_per_second"] > 0
    assert (figures["redis_us"] > 0) == server.endswith("redis")


@pytest.mark.parametrize("name", ["centrifugo", "centrifugo_redis"])
def test_a_missing_centrifugo_leaves_its_servers_out(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="centrifugo on the PATH"):
        BASELINES[name](Credentials.make())


def test_a_missing_compiler_leaves_the_c_server_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(BenchError, match="no-such-compiler"):
        BASELINES["c_epoll"](Credentials.make())


def test_missing_node_leaves_its_server_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="'node'"):
        BASELINES["node_ws"](Credentials.make())
