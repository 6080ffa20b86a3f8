"""Runs cases with a client under test, and gives the results."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeAlias

import attrs
import trio

from actors.groups import raising_sole_error
from broker.conformance.cases import Case
from broker.conformance.client_steps import expect
from broker.conformance.progress import Progress
from broker.conformance.server_steps import act
from broker.conformance.stage import FailedError, Stage
from broker.conformance.steps import ServerStep
from broker.errors import ConfigurationError

HOST = "127.0.0.1"

Client: TypeAlias = Callable[[Stage, Case, str], Awaitable[None]]
"""Runs the client under test for a case, with its lines given to the stage, against the server at an address."""


@attrs.frozen
class Failure:
    """The action that a client should have taken, and the one that it took."""

    expected: str
    came: str
    transcript: tuple[str, ...]


@attrs.frozen
class Result:
    """The result of one case."""

    case: Case
    seconds: float
    failure: Failure | None


@attrs.frozen
class Limits:
    """The limits of a run."""

    timeout_seconds: float
    """How long one step waits for the client."""
    silence_seconds: float
    """How long a client may take to notice that the server is silent, and to connect again."""
    jobs: int
    """How many cases run at once."""
    port: int = 0
    """0: each case has a free one."""


async def run_cases(
    cases: Sequence[Case], client: Client, limits: Limits, on_result: Callable[[Result], Awaitable[None]]
) -> list[Result]:
    """Run cases over TCP on the loopback interface, each with a client of its own; `on_result` is called as they end.

    :raises ConfigurationError: if the port cannot be bound.
    """
    results: dict[str, Result] = {}
    places = trio.Semaphore(limits.jobs)

    async def run_one(case: Case) -> None:
        async with places:
            results[case.name] = await _run_over_tcp(case, client, limits)
        await on_result(results[case.name])

    with raising_sole_error():
        async with trio.open_nursery() as nursery:
            for case in cases:
                nursery.start_soon(run_one, case)
    return [results[case.name] for case in cases]


async def run_case(case: Case, stage: Stage, client: Callable[[], Awaitable[None]]) -> Result:
    """Play a case with a client that connects to the stage, and end it."""
    began_at = trio.current_time()
    failure: Failure | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client)
        try:
            await _play(case, stage)
        except FailedError as error:
            failure = Failure(error.expected, error.came, tuple(stage.transcript))
        nursery.cancel_scope.cancel()
    return Result(case, trio.current_time() - began_at, failure)


async def _run_over_tcp(case: Case, client: Client, limits: Limits) -> Result:
    stage = Stage(timeout_seconds=limits.timeout_seconds, silence_seconds=limits.silence_seconds)
    try:
        listeners = await trio.open_tcp_listeners(limits.port, host=HOST)
    except OSError as error:
        raise ConfigurationError(f"--port: cannot listen on {HOST}:{limits.port}: {error.strerror}") from None
    url = f"http://{HOST}:{listeners[0].socket.getsockname()[1]}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, stage.serve, listeners)
        result = await run_case(case, stage, partial(client, stage, case, url))
        nursery.cancel_scope.cancel()
    return result


async def _play(case: Case, stage: Stage) -> None:
    progress = Progress(stage)
    for step in case.steps:
        if isinstance(step, ServerStep):
            await act(progress, step)
        else:
            await expect(progress, step)
