"""Our own clients pass every case."""

import json
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path
from random import Random
from types import ModuleType

import attrs
import pytest
import trio

from broker.client import connect
from broker.conformance.cases import CASES, Case
from broker.conformance.command import environment_of
from broker.conformance.room import ROOM
from broker.conformance.run import Limits, Result, run_cases
from broker.conformance.stage import Stage
from tests.conformance.memory import Surroundings, failed_cases
from tests.support.patience import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "conformance.md").read_text()
[PROGRAM] = re.findall(r"^```python file=client_under_test.py\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)


async def test_the_python_client_passes_every_case(autojump_clock: trio.testing.MockClock) -> None:
    """With the program of the docs, on virtual time."""
    program = ModuleType("client_under_test")
    exec(PROGRAM, program.__dict__)

    async def run(surroundings: Surroundings) -> None:
        async with connect(
            "http://kit",
            token=surroundings.get_token,
            dial=surroundings.dial,
            random=Random(7),
            clock=trio.current_time,
        ) as client:
            await program.follow(client, ROOM, surroundings.tell)
            await trio.sleep_forever()

    assert await failed_cases(CASES, run) == {}


NODE = [shutil.which("node") or "node", "--no-warnings", "--experimental-websocket"]
"""Node 20 has a browser's WebSocket under this option; before, it has none."""


def has_websocket() -> bool:
    try:
        return subprocess.run([*NODE, "-e", "0"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@attrs.define(eq=False)
class ClientsInNode:
    """Browser clients for many cases in one process, which would start in a tenth of a second each."""

    process: trio.Process
    stages: dict[str, Stage] = attrs.Factory(dict)
    writing: trio.Lock = attrs.Factory(trio.Lock)

    async def __call__(self, stage: Stage, case: Case, url: str) -> None:
        self.stages[case.name] = stage
        # Its heartbeat is quicker than what the kit allows, which a busy machine may need.
        environ = environment_of(stage, case, url) | {"GREENROOM_SILENCE_SECONDS": "24"}
        await self.write(case.name, environ)
        try:
            await trio.sleep_forever()
        finally:
            del self.stages[case.name]
            with trio.CancelScope(shield=True):
                await self.write(case.name, None)

    async def write(self, name: str, environ: dict[str, str] | None) -> None:
        assert self.process.stdin is not None
        async with self.writing:
            await self.process.stdin.send_all(json.dumps({"case": name, "environ": environ}).encode() + b"\n")

    async def read(self) -> None:
        assert self.process.stdout is not None
        rest = b""
        async for data in self.process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in map(json.loads, lines):
                if line["case"] in self.stages:
                    self.stages[line["case"]].line(json.dumps(line["line"]))


@pytest.mark.skipif(not has_websocket(), reason="needs Node 20 or later")
async def test_the_browser_client_passes_every_case() -> None:
    limits = Limits(timeout_seconds=PATIENCE_SECONDS, silence_seconds=PATIENCE_SECONDS, jobs=len(CASES))
    program = Path(__file__).with_name("browser_client.mjs")

    async def ignore(_result: Result) -> None:
        await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        process = await nursery.start(
            partial(
                trio.run_process,
                [*NODE, program, "--many"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                check=False,
            )
        )
        clients = ClientsInNode(process)
        nursery.start_soon(clients.read)
        results = await run_cases(CASES, clients, limits, ignore)
        nursery.cancel_scope.cancel()
    assert {result.case.name: result.failure for result in results if result.failure is not None} == {}
