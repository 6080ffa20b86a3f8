"""`python -m bench tls`, whole and small."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PIN = "--pin" if len(os.sched_getaffinity(0)) > 1 else "--no-pin"


def test_both_servers_deliver_all_and_the_ratio_is_told() -> None:
    sizes = ("--connections", "6", "--rooms", "3", "--messages", "5", "--repeats", "1")
    done = subprocess.run(
        [sys.executable, "-m", "bench", "tls", *sizes, PIN],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^1: .*greenroom [\d,]+, greenroom_tls [\d,]+; ratio ", done.stdout, re.MULTILINE)
