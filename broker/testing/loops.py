"""The event loop in which the broker of a test runs: that of the test, or another on virtual time in a thread.

Time passes only while all that runs in the broker's loop waits, and in a thread only while the test waits for the
broker as well: otherwise the clock would run on while the test is at work.
"""

import math
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from functools import partial, update_wrapper
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import anyio
import trio
from trio.testing import MockClock

from broker.errors import GreenroomError

P = ParamSpec("P")
T = TypeVar("T")


class BrokerEndedError(GreenroomError):
    """The broker of the test has ended; the end of its block raises why."""

    def __init__(self) -> None:
        super().__init__("the broker of the test has ended")


class BrokerLoop(Protocol):
    """Runs functions in the event loop of the broker."""

    async def run(self, function: Callable[[], Awaitable[T]]) -> T:
        """Return the result of a function, which is cancelled with the caller."""
        ...


class LoopOfTest(BrokerLoop):
    """The broker runs in the loop of the test."""

    async def run(self, function: Callable[[], Awaitable[T]]) -> T:
        """See BrokerLoop."""
        return await function()


class LoopInThread(BrokerLoop):
    """The broker runs in a trio loop of its own; the test may run asyncio or trio."""

    def __init__(self, nursery: trio.Nursery) -> None:
        """`nursery` is one of the broker's loop, in which this is called, and whose clock is virtual."""
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, MockClock)
        self._clock = clock
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()
        self._running = 0
        self._let_time_pass()

    async def run(self, function: Callable[[], Awaitable[T]]) -> T:
        """See BrokerLoop.

        :raises BrokerEndedError: if the broker has ended, by a failure.
        """
        future: Future[T] = Future()
        scope = trio.CancelScope()
        try:
            self._token.run_sync_soon(self._start, function, future, scope)
        except trio.RunFinishedError:
            raise BrokerEndedError from None
        try:
            return await anyio.to_thread.run_sync(future.result, abandon_on_cancel=True)
        finally:
            if not future.done():
                with suppress(trio.RunFinishedError):
                    self._token.run_sync_soon(scope.cancel)

    def end(self) -> None:
        """Let the clock jump from now on, for whatever ends in the loop."""
        self._clock.autojump_threshold = 0.0

    def _start(
        self, function: Callable[[], Awaitable[T]], future: "Future[T]", scope: trio.CancelScope
    ) -> None:
        try:
            self._nursery.start_soon(self._run, function, future, scope)
        except RuntimeError:  # the nursery is closed
            future.set_exception(BrokerEndedError())

    async def _run(
        self, function: Callable[[], Awaitable[T]], future: "Future[T]", scope: trio.CancelScope
    ) -> None:
        settle: Callable[[], None] = partial(future.set_exception, BrokerEndedError())
        self._running += 1
        self._let_time_pass()
        try:
            with scope:
                try:
                    settle = partial(future.set_result, await function())
                except Exception as error:  # noqa: BLE001  # raised in the test
                    settle = partial(future.set_exception, error)
        finally:
            self._running -= 1
            self._let_time_pass()
            settle()

    def _let_time_pass(self) -> None:
        """Let the clock jump while something is run, and only then."""
        self._clock.autojump_threshold = 0.0 if self._running else math.inf


class InBroker(Protocol):
    """Has methods that run in the loop of the broker."""

    @property
    def broker_loop(self) -> BrokerLoop:
        """That loop."""
        ...


S = TypeVar("S", bound=InBroker)


def in_broker(
    method: Callable[Concatenate[S, P], Awaitable[T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Let an async method run in the loop of the broker, whichever loop calls it."""

    async def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.broker_loop.run(partial(method, self, *args, **kwargs))

    update_wrapper(run, method)
    return run
