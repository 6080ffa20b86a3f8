"""The fuzzer runs, and all targets hold for a hundred inputs each, which are the same in every run."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz.table import NAMES
from tests.support.patience import PATIENCE_SECONDS

RUNS = 100

needs_atheris = pytest.mark.skipif(
    find_spec("atheris") is None, reason="atheris is not installed: the extra `fuzz`"
)


@needs_atheris
def test_all_targets_hold(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--runs", str(RUNS), "--failures", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    # The seeds may be more.
    assert re.findall(r"^(\w+): Done (\d+) runs", ended.stdout, re.MULTILINE) == [
        (name, str(RUNS)) for name in NAMES
    ]
    assert list(tmp_path.iterdir()) == []
