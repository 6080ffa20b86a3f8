"""`python -m bench deflate`, whole and small."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PIN = "--pin" if len(os.sched_getaffinity(0)) > 1 else "--no-pin"


def test_both_servers_deliver_all_and_a_compressed_delivery_has_fewer_bytes() -> None:
    sizes = ("--connections", "6", "--rooms", "3", "--messages", "5", "--repeats", "1", "--size", "1024")
    done = subprocess.run(
        [sys.executable, "-m", "bench", "deflate", *sizes, PIN],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    row = re.search(r"^ +1,024 +([\d,]+) +([\d,]+) +0\.\d\d ", done.stdout, re.MULTILINE)
    assert row is not None, done.stdout
    assert int(row[2].replace(",", "")) < int(row[1].replace(",", ""))
