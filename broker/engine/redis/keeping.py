"""Keeps a connection up: makes it, lets it be worked with, and makes it again when it is lost."""

from collections.abc import Awaitable, Callable, Sequence
from random import Random

import attrs
import trio

from broker.engine.redis.connection import Connection
from broker.engine.redis.health import Health
from broker.errors import ConfigurationError, EngineTrouble, EngineUnavailableError

FIRST_SECONDS = 0.1
MAX_SECONDS = 2.0

STABLE_SECONDS = 5.0
"""A connection that held for so long was a good one: the next begins without the delays of those before."""


def retry_seconds(attempt: int, random: Random) -> float:
    """Return the delay after so many (0, 1, …) failures in a row: exponential, full jitter."""
    return random.uniform(0.0, min(MAX_SECONDS, FIRST_SECONDS * 2.0 ** min(attempt, 16)))


class Superseded(Exception):
    """Raised by a work: nothing waits on its connection any more, and another one takes its place."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection


@attrs.frozen
class Keeper:
    """Keeps one connection; `part` is what it is called in the server's health."""

    part: str
    dial: Callable[[], Awaitable[Connection]]
    health: Health
    random: Random

    async def run(
        self,
        works: Sequence[Callable[[Connection], Awaitable[None]]],
        on_lost: Callable[[str], None],
        first: Connection | None = None,
    ) -> None:
        """Run `works` on a connection until one of them raises EngineUnavailableError, again and again.

        `on_lost` is called with the reason before the next attempt. `first` is one that is there already. After
        Superseded the works begin again on the other connection, without `on_lost` and without a delay.
        """
        attempt = 0
        while True:
            began = trio.current_time()
            try:
                connection = first or await self.dial()
                first = None
                self.health.note_well(self.part)
                try:
                    first = await _work(works, connection)
                finally:
                    await connection.aclose()
                continue
            except (EngineUnavailableError, ConfigurationError) as error:
                # A login that is refused now may be restored: the clients stay, and so do we.
                self.health.note_trouble(self.part, str(error), EngineTrouble.UNREACHABLE)
                on_lost(str(error))
            except BaseException:
                on_lost("the engine is closing")
                if first is not None:
                    await first.aclose()  # noqa: ASYNC120  # does not wait
                raise
            if trio.current_time() - began > STABLE_SECONDS:
                attempt = 0
            await trio.sleep(retry_seconds(attempt, self.random))
            attempt += 1


async def _work(
    works: Sequence[Callable[[Connection], Awaitable[None]]], connection: Connection
) -> Connection:
    """Run all works until one has another connection, which is returned.

    :raises EngineUnavailableError: if the connection is lost.
    """
    losses: list[EngineUnavailableError] = []
    successors: list[Connection] = []

    async def run(work: Callable[[Connection], Awaitable[None]]) -> None:
        try:
            await work(connection)
        except EngineUnavailableError as error:
            losses.append(error)
            nursery.cancel_scope.cancel()
        except Superseded as superseded:
            successors.append(superseded.connection)
            nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for work in works:
                nursery.start_soon(run, work)
    except BaseException:
        for successor in successors:
            await successor.aclose()  # noqa: ASYNC120  # does not wait
        raise
    if successors:
        return successors[0]
    raise losses[0]
