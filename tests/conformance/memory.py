"""Cases played in this process: over streams in memory, on virtual time."""

import json
from collections.abc import Awaitable, Callable

import attrs
import trio
from trio.testing import memory_stream_pair

from broker.conformance.cases import Case
from broker.conformance.run import Result, run_case
from broker.conformance.stage import Stage


@attrs.define
class Surroundings:
    """What a client under test needs, as the command of the kit has it in its environment."""

    stage: Stage
    nursery: trio.Nursery
    token: str

    async def dial(self) -> trio.StapledStream:
        ours, theirs = memory_stream_pair()
        self.nursery.start_soon(self.stage.serve, theirs)
        return ours

    async def get_token(self) -> str:
        await trio.lowlevel.checkpoint()
        return self.stage.make_token()

    def tell(self, **line: object) -> None:
        self.stage.line(json.dumps(line))


async def play(case: Case, client: Callable[[Surroundings], Awaitable[None]]) -> Result:
    """Play a case with a client; whatever it raises ends it, as it ends a process."""
    stage = Stage(timeout_seconds=30.0, silence_seconds=70.0)

    async def run_client() -> None:
        async with trio.open_nursery() as nursery:
            try:
                await client(Surroundings(stage, nursery, stage.make_token()))
            except Exception as error:
                stage.program_ended(repr(error))
            else:
                stage.program_ended("status 0")

    return await run_case(case, stage, run_client)


async def failed_cases(
    cases: tuple[Case, ...], client: Callable[[Surroundings], Awaitable[None]]
) -> dict[str, str]:
    """Play cases at once; returns the reasons of those that failed."""
    results: list[Result] = []

    async def play_one(case: Case) -> None:
        results.append(await play(case, client))

    async with trio.open_nursery() as nursery:
        for case in cases:
            nursery.start_soon(play_one, case)
    return {
        result.case.name: f"expected {result.failure.expected}; came {result.failure.came}"
        for result in results
        if result.failure is not None
    }
