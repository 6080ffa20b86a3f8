"""Keeps a connection up: opens it, runs the tasks that use it, and opens another one when it is lost."""

from collections.abc import Awaitable, Callable, Sequence
from random import Random

import attrs
import trio

from broker.engine.redis.client.connection import Connection
from broker.engine.redis.client.health import Health
from broker.errors import ConfigurationError, EngineTrouble, EngineUnavailableError

FIRST_SECONDS = 0.1
MAX_SECONDS = 2.0

STABLE_SECONDS = 5.0
"""After a connection that lasted this long, the delays begin anew."""


def retry_seconds(attempt: int, random: Random) -> float:
    """Return the delay after so many (0, 1, …) failures in a row: exponential, full jitter."""
    return random.uniform(0.0, min(MAX_SECONDS, FIRST_SECONDS * 2.0 ** min(attempt, 16)))


class Superseded(Exception):
    """Raised by a task of a connection: another connection takes its place, as no request waits for a reply on it."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection


class Restarted(Exception):
    """Raised by a task of a connection: another one is to be opened, though this one shows no fault of its own."""


@attrs.frozen
class Reconnector:
    """Keeps one connection up; `part` is its name in the server's health."""

    part: str
    dial: Callable[[], Awaitable[Connection]]
    health: Health
    random: Random

    async def run(
        self,
        tasks: Sequence[Callable[[Connection], Awaitable[None]]],
        on_lost: Callable[[str], None],
        first: Connection | None = None,
    ) -> None:
        """Run `tasks` on one connection after the other, each until a task raises EngineUnavailableError or Restarted.

        `on_lost` is called with the reason before the next attempt. `first` is a connection that is open already.
        After Superseded the tasks start again on the other connection, without `on_lost` and without a delay.

        A connection that is open is not yet one that works, so the tasks call `note_working` when they know.
        """
        attempt = 0
        while True:
            began = trio.current_time()
            try:
                connection = first or await self.dial()
                first = None
                try:
                    first = await _run_tasks(tasks, connection)
                finally:
                    await connection.aclose()
                continue
            except (EngineUnavailableError, ConfigurationError) as error:
                # A refused login may be allowed again: the clients' connections stay open meanwhile.
                self.health.note_trouble(self.part, str(error), EngineTrouble.UNREACHABLE)
                on_lost(str(error))
            except Restarted as restart:
                on_lost(str(restart))
            except BaseException:
                on_lost("the engine is closing")
                if first is not None:
                    await first.aclose()  # noqa: ASYNC120  # does not wait
                raise
            if trio.current_time() - began > STABLE_SECONDS:
                attempt = 0
            await trio.sleep(retry_seconds(attempt, self.random))
            attempt += 1

    def note_working(self) -> None:
        """Note that the server has answered as it should on the present connection."""
        self.health.note_recovery(self.part)


async def _run_tasks(
    tasks: Sequence[Callable[[Connection], Awaitable[None]]], connection: Connection
) -> Connection:
    """Run all tasks until one raises Superseded; returns its connection.

    :raises EngineUnavailableError: if the connection is lost.
    :raises Restarted: if a task does.
    """
    losses: list[EngineUnavailableError | Restarted] = []
    successors: list[Connection] = []

    async def run(task: Callable[[Connection], Awaitable[None]]) -> None:
        try:
            await task(connection)
        except (EngineUnavailableError, Restarted) as error:
            losses.append(error)
            nursery.cancel_scope.cancel()
        except Superseded as superseded:
            successors.append(superseded.connection)
            nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for task in tasks:
                nursery.start_soon(run, task)
    except BaseException:
        for successor in successors:
            await successor.aclose()  # noqa: ASYNC120  # does not wait
        raise
    if successors:
        return successors[0]
    raise losses[0]
