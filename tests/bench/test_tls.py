"""`python -m bench tls`, whole and small."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PIN = "--pin" if len(os.sched_getaffinity(0)) > 1 else "--no-pin"
SMALL = ("--load", "f3", "--load", "echo", "--connections", "20", "--duration", "0.5", "--warm-up", "0.2")


def bench(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", "tls", *SMALL, "--repeats", "1", PIN, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler (cc)")
def test_a_server_with_tls_delivers_all_and_its_ratio_to_clear_text_is_told(tmp_path: Path) -> None:
    done = bench("--output", str(tmp_path))
    if "install libssl-dev" in done.stderr:
        pytest.skip("OpenSSL's headers are not there (libssl-dev)")
    assert done.returncode == 0, done.stdout + done.stderr
    for load in ("f3", "echo"):
        runs = json.loads((tmp_path / f"{load}.json").read_bytes())["runs"]
        assert [run["server"] for run in runs] == ["greenroom_tls", "greenroom"]
        assert not any(count for run in runs for count in run["faults"].values())
    assert re.search(r"^f3: \d+\.\d\d\necho: \d+\.\d\d$", done.stdout, re.MULTILINE)


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler (cc)")
def test_missing_headers_are_told_in_one_line(tmp_path: Path) -> None:
    header = tmp_path / "openssl" / "ssl.h"
    header.parent.mkdir()
    header.write_text("#error as if it was not there\n")
    done = bench(CPATH=str(tmp_path))
    assert done.returncode == 1
    assert re.fullmatch(r"Error: .*install libssl-dev\n", done.stderr)
