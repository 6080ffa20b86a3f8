"""The start and the end of an ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.typing import ASGIFramework, ASGISendEvent, LifespanState
from hypercorn.utils import LifespanTimeoutError

from broker.errors import GreenroomError
from broker.log import Log


class ApplicationError(GreenroomError):
    """An ASGI application could not be started."""


class _Lifespan(Lifespan):
    """Hypercorn's lifespan, which keeps a failure instead of raising it in the application's task."""

    failure: str | None = None

    async def asgi_send(self, message: ASGISendEvent) -> None:
        if message["type"] == "lifespan.startup.failed":
            self.failure = message["message"]
            self.startup.set()
        elif message["type"] == "lifespan.shutdown.failed":
            self.failure = message["message"]
            self.shutdown.set()
        else:
            await super().asgi_send(message)


@asynccontextmanager
async def open_lifespan(app: ASGIFramework, config: Config, log: Log) -> AsyncIterator[LifespanState]:
    """Start an application and stop it when the block is left; gives the state it shares with its requests.

    An application without lifespan support, as ASGI allows, is served too. If the block raises or is cancelled, the
    application's tasks are cancelled without a shutdown event. A failing shutdown is logged.

    :raises ApplicationError: if it fails to start, or takes too long.
    """
    state: LifespanState = {}
    lifespan = _Lifespan(ASGIWrapper(app), config, state)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lifespan.handle_lifespan)
        try:
            await lifespan.wait_for_startup()
        except LifespanTimeoutError:
            lifespan.failure = "it took too long"
        is_started = lifespan.failure is None
        if is_started:
            yield state
            await _shut_down(lifespan)
        nursery.cancel_scope.cancel()
    if not is_started:
        raise ApplicationError(f"the HTTP application did not start: {lifespan.failure}")
    if lifespan.failure is not None:
        log.error("application failed to stop", reason=lifespan.failure)


async def _shut_down(lifespan: _Lifespan) -> None:
    try:
        with (
            # Hypercorn's own limit does not cover an application that never receives the event.
            trio.fail_after(lifespan.config.shutdown_timeout),
            # Closed if the application's lifespan has ended by itself.
            suppress(trio.ClosedResourceError, trio.BrokenResourceError),
        ):
            await lifespan.wait_for_shutdown()
    except (LifespanTimeoutError, trio.TooSlowError):
        lifespan.failure = "it took too long"
