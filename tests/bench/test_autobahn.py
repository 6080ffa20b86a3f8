"""`bench autobahn`: the echo that the suite is shown, and what is made of its report."""

import json
import stat
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner
from trio_websocket import wrap_client_stream

from bench.autobahn.command import autobahn
from bench.autobahn.echo import ECHO
from bench.errors import BenchError
from bench.instructions.node import open_node, target_of
from bench.instructions.script import memory_pair
from tests.support.patience import PATIENCE_SECONDS

WSTEST = """#!/bin/sh
[ "$1 $2 $3" = "-m fuzzingclient -s" ] || exit 3
mkdir reports && echo '{report}' > reports/index.json
"""


@pytest.mark.parametrize("text", ["", "hello", "{not JSON", "ä" * 300, "x" * 65_536])
async def test_every_text_comes_back(text: str) -> None:
    async with open_node(ECHO) as node, trio.open_nursery() as nursery:
        ours, theirs = memory_pair()
        node.connect(theirs)
        with trio.fail_after(PATIENCE_SECONDS):
            client = await wrap_client_stream(nursery, ours, "localhost", target_of("", "ann"))
            for _ in range(2):
                await client.send_message(text)
                assert await client.get_message() == text
            await client.aclose()


def test_without_the_suite_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(autobahn)
    assert done.exit_code == 0
    assert "the cases were not run" in done.output


def say(monkeypatch: pytest.MonkeyPatch, directory: Path, **behaviors: str) -> None:
    """Stand a suite in the way that reports this of cases 1.1.N."""
    cases = {f"1.1.{name[1:]}": {"behavior": said, "behaviorClose": "OK"} for name, said in behaviors.items()}
    script = directory / "wstest"
    script.write_text(WSTEST.replace("{report}", json.dumps({"greenroom": cases})))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(directory), prepend=":")


def test_what_the_suite_reports_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    say(monkeypatch, tmp_path, _1="OK", _2="NON-STRICT", _3="OK")
    done = CliRunner().invoke(autobahn, catch_exceptions=False)
    assert done.exit_code == 0
    assert "1 NON-STRICT, 2 OK" in done.output


def test_a_failed_case_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    say(monkeypatch, tmp_path, _1="OK", _2="FAILED")
    with pytest.raises(BenchError, match=r"1\.1\.2"):
        CliRunner().invoke(autobahn, catch_exceptions=False)
