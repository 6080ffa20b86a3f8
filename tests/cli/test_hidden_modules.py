"""A project with modules of its own called as ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = "import sys; sys.argv = ['greenroom', '--version']; import _greenroom; _greenroom.main()"
CONNECT = "from broker import connect"
PUBLISHER = "from broker import Publisher; print('made')"


def run(program: str, *path: Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=False, cwd="/"
    )


@pytest.mark.parametrize("is_package", [False, True])
@pytest.mark.parametrize(
    ("name", "program"),
    [("broker", COMMAND), ("actors", COMMAND), ("actors", CONNECT)],
)
def test_the_one_that_hides_ours_is_named_with_both_paths(
    tmp_path: Path, name: str, program: str, is_package: bool
) -> None:
    theirs = tmp_path / name / "__init__.py" if is_package else tmp_path / f"{name}.py"
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("")
    done = run(program, tmp_path, ROOT)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert f"the module {name} is {theirs}, which hides Greenroom's {ROOT / name / '__init__.py'}" in last
    if program == COMMAND:
        assert done.stderr.count("\n") == 1


def test_a_publisher_needs_no_actors(tmp_path: Path) -> None:
    (tmp_path / "actors.py").write_text("")
    assert run(PUBLISHER, tmp_path, ROOT).stdout == "made\n"


def test_ours_are_found(tmp_path: Path) -> None:
    assert run(COMMAND, tmp_path, ROOT).stdout.startswith("greenroom")
