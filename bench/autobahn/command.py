"""`autobahn`: the suite's cases 1 to 7, and 12 and 13 of compression, against the broker's transport."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import click
import msgspec

from bench import process
from bench.errors import BenchError, last_lines
from bench.instructions.node import target_of
from bench.spec import ServerSpec

_SECONDS = 7200.0
"""Parts 12 and 13 echo a thousand messages in each case."""
_AGENT = "greenroom"
_CASES = [f"{part}.*" for part in (*range(1, 8), 12, 13)]
_BINARY = ["1.2.*", "12.2.*", "12.3.*", "12.5.*"]
"""The broker closes with 1003 where a binary message comes: that is its protocol."""
_GOOD = {"OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED"}


class _Case(msgspec.Struct):
    behavior: str
    close: str = msgspec.field(name="behaviorClose", default="OK")


@click.command()
def autobahn() -> None:
    """Run the Autobahn suite's cases 1 to 7, 12 and 13, but those of binary messages.

    Needs its `wstest`, which needs Python 2.7; without it, says so. tests/transport/test_rfc6455_cases.py and
    test_inflation.py ask the same of the broker with no suite.
    """
    wstest = shutil.which("wstest")
    if wstest is None:
        click.echo(
            "the cases were not run: there is no `wstest` (autobahntestsuite, for Python 2.7); "
            "tests/transport/test_rfc6455_cases.py asks the same"
        )
        return
    spec = ServerSpec(
        name=_AGENT,
        arguments=(sys.executable, "-m", "bench.autobahn.echo"),
        environment={"PORT": "{port}"},
        ready_path=None,
    )
    with tempfile.TemporaryDirectory() as directory, process.running(spec, core=None) as server:
        cases = _run(wstest, server.port, Path(directory))
    behaviors = Counter(case.behavior for case in cases.values())
    click.echo(", ".join(f"{count} {behavior}" for behavior, count in sorted(behaviors.items())))
    bad = sorted(name for name, case in cases.items() if not {case.behavior, case.close} <= _GOOD)
    if bad:
        raise BenchError(f"not as RFC 6455 has it: {', '.join(bad)}")


def _run(wstest: str, port: int, directory: Path) -> dict[str, _Case]:
    """Return what the suite says of each case.

    :raises BenchError: if it does not come to an end.
    """
    url = f"ws://{process.HOST}:{port}{target_of('', 'autobahn')}"
    plan = {
        "outdir": str(directory / "reports"),
        "servers": [{"agent": _AGENT, "url": url}],
        "cases": _CASES,
        "exclude-cases": _BINARY,
        "exclude-agent-cases": {},
    }
    (directory / "plan.json").write_text(json.dumps(plan))
    arguments = [wstest, "-m", "fuzzingclient", "-s", str(directory / "plan.json")]
    try:
        done = subprocess.run(
            arguments, cwd=directory, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as late:
        raise BenchError(f"wstest did not end within {_SECONDS:g} s") from late
    index = directory / "reports" / "index.json"
    if done.returncode or not index.exists():
        raise BenchError(f"wstest ended with status {done.returncode}{last_lines(done.stdout + done.stderr)}")
    return msgspec.json.decode(index.read_bytes(), type=dict[str, dict[str, _Case]])[_AGENT]
