"""`bench all`: what it runs, that its time is bounded, and the plots of it."""

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError
from bench.plots.command import draw
from bench.plots.svg import short
from bench.scenarios.everything import chosen, parts_of

ROOT = Path(__file__).resolve().parents[2]
PIN = "--pin" if len(os.sched_getaffinity(0)) > 1 else "--no-pin"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("quick", [True, False])
def test_every_scenario_is_run_once(quick: bool) -> None:
    names = [part.scenario.name for part in parts_of(quick=quick)]
    assert len(set(names)) == len(names)
    assert {name.partition("-")[0] for name in names} == {
        "fanout", "echo", "connect", "latency", "notify", "stalled", "large", "fairness", "scaling", "recovery",
        "durable",
    }  # fmt: skip


def test_only_what_is_named_is_run() -> None:
    def names(*only: str) -> list[str]:
        return [part.scenario.name for part in chosen(parts_of(quick=True), only)]

    assert names("fanout-f1-one", "echo") == ["fanout-f1-one", "echo"]
    assert names("latency") == ["latency-f1", "latency-f2", "latency-f3"]
    assert len(names()) > 10
    with pytest.raises(BenchError, match="no scenario is called latex"):
        names("latex")


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler (cc)")
def test_without_time_left_the_rest_is_skipped_and_told(tmp_path: Path) -> None:
    output = tmp_path / "all.json"
    done = subprocess.run(
        [
            sys.executable, "-m", "bench", "all", "--quick", "--minutes", "0.1", "--repeats", "1", PIN,
            "--only", "fanout-f1", "--only", "durable", "--only", "latency", "--output", str(output),
        ],
        cwd=ROOT,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PATH": _path_without_npm(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "node_ws is left out" in done.stdout
    # How far it comes depends on the machine; not through all of this in 6 s.
    assert ": no time was left for it" in done.stderr
    record = json.loads(output.read_bytes())
    assert "fanout-f1" in record["scenarios"]
    assert (output.with_suffix("") / "throughput.svg").exists()


def _path_without_npm(directory: Path) -> str:
    """Packages are not installed for a test: the compiler is all it needs."""
    tools = directory / "tools"
    tools.mkdir()
    for name in ("cc", "as", "ld"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    return str(tools)


def spread(median: float) -> dict[str, float]:
    return {"median": median, "low": median * 0.9, "high": median * 1.1, "runs": 3}


def record_of(name: str, parameters: dict[str, Any], figures: dict[str, float]) -> dict[str, Any]:
    servers = {"greenroom": 1.0, "fastapi_seed": 0.1}
    return {
        "scenario": name,
        "title": name,
        "parameters": parameters,
        "runs": [
            {"server": server, "figures": figures, "latency_ns": [[1_000_000, 90], [20_000_000, 10]]}
            for server in servers
        ],
        "summary": {
            server: {figure: spread(value * share) for figure, value in figures.items()}
            for server, share in servers.items()
        },
    }


CROWD = {"connections": 1000, "rooms": 100, "publishers": 1}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    load = {"in_flight": 1}
    records = [
        record_of("fanout-f2", {"crowd": CROWD, "load": load}, {"deliveries_per_cpu_second": 123_456.0}),
        record_of(
            "connect",
            {"crowd": CROWD, "load": load},
            {"joins_per_cpu_second": 900.0, "memory_per_member_kib": 15.5},
        ),
        record_of("latency-f2", {"shape": {"crowd": CROWD, "in_flight": 1}, "load": load}, {"rate": 1.0}),
        record_of(
            "scaling",
            {"points": {"connections": 1000}},
            {
                "size_2": 10.0,
                "size_100": 1000.0,
                "rooms_1": 9.0,
                "rooms_50": 5.0,
                "resting_10": 3,
                "resting_99": 4,
            },
        ),
    ]
    path = tmp_path / "all.json"
    path.write_text(
        json.dumps({"machine": {}, "scenarios": {record["scenario"]: record for record in records}})
    )
    return path


def test_plots_show_what_was_measured(results: Path, tmp_path: Path) -> None:
    plots = {path.stem: path for path in draw([results], tmp_path / "plots")}
    assert set(plots) == {"throughput", "latency", "scaling", "memory", "idle-memory"}
    texts = {
        name: [element.text for element in ElementTree.parse(path).iter(f"{SVG}text")]
        for name, path in plots.items()
    }
    assert {"Greenroom", "FastAPI room", "123k", "12.3k", "100 rooms of 10, 1 in flight"} <= set(
        texts["throughput"]
    )
    assert {"15.5", "1,000 connections join 100 rooms"} <= set(texts["idle-memory"])
    assert {"100 rooms of 10", "99.9 %"} <= set(texts["latency"])


def test_the_longer_bar_is_the_higher_figure(results: Path, tmp_path: Path) -> None:
    plots = {path.stem: path for path in draw([results], tmp_path / "plots")}
    bars = [
        float(box.attrib["width"])
        for box in ElementTree.parse(plots["idle-memory"]).iter(f"{SVG}rect")
        if "fill" in box.attrib
    ]
    assert bars[0] == pytest.approx(10 * bars[1], rel=0.01)


def test_of_several_files_the_last_counts(results: Path, tmp_path: Path) -> None:
    newer = json.loads(results.read_text())
    newer["scenarios"] = {"connect": newer["scenarios"]["connect"]}
    newer["scenarios"]["connect"]["summary"]["greenroom"]["memory_per_member_kib"] = spread(7.25)
    second = tmp_path / "newer.json"
    second.write_text(json.dumps(newer))
    plots = {path.stem: path.read_text() for path in draw([results, second], tmp_path / "plots")}
    assert "7.25" in plots["idle-memory"]
    assert "123k" in plots["throughput"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"scenario": "fanout"}')
    with pytest.raises(BenchError, match="no results of `bench all`"):
        draw([other], tmp_path)


@pytest.mark.parametrize(
    ("value", "shown"), [(1_234_567, "1.23M"), (50_000, "50k"), (944, "944"), (0.1, "0.1")]
)
def test_numbers_are_short(value: float, shown: str) -> None:
    assert short(value) == shown
