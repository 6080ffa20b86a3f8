"""`make serve`, as far as it can be seen without the minute that pip takes."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def make_serve(*arguments: str) -> list[str]:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    # The tests themselves run within make, whose flags are not for this one.
    others = {
        name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
    }
    command = ["make", "--dry-run", "serve", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=others, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_it_says_what_it_does_before_each_step_that_takes_time(tmp_path: Path) -> None:
    steps = make_serve(f"VENV={tmp_path}/new")
    for slow in ("-m venv", "pip install"):
        place = next(index for index, step in enumerate(steps) if slow in step)
        assert steps[place - 1].startswith("echo "), steps


def test_the_port_can_be_chosen() -> None:
    assert make_serve("PORT=8123")[-1].endswith("/greenroom serve --dev --port 8123")
    assert make_serve("PORT=")[-1].strip().endswith("/greenroom serve --dev")
