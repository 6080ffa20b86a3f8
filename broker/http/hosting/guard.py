"""A layer between hypercorn and an ASGI application: a failing or blocked request ends alone, within a time limit.

Hypercorn 0.18 sends `http.disconnect` during the application's last send, upon which Quart-trio 0.12 cancels that
send: neither `Connection: close` nor the keep-alive timeout works then. So a send is shielded from cancellation, with
a deadline. And an application that does not read all of a body must not block hypercorn's queue for ever.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import attrs
import trio
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    HTTPScope,
    Scope,
    WebsocketScope,
)

from broker.http.exchange import CLIENT_CERTIFICATE
from broker.http.hosting.app_tasks import ClientGoneError
from broker.http.problems import Problem, send_problem
from broker.http.refusals import address_of
from broker.refusals import Refusals


class AbortScope:
    """Aborts one connection, with all of its tasks, shielded ones too."""

    def __init__(self, close_at_once: Callable[[], None]) -> None:
        self.scope = trio.CancelScope()
        self._shields: set[trio.CancelScope] = set()
        self._close_at_once = close_at_once

    def abort(self) -> None:
        """Close the connection now and cancel its tasks, shielded ones too."""
        self._close_at_once()
        self.scope.cancel()
        for shield in self._shields:
            shield.cancel()

    @contextmanager
    def shield(self, seconds: float) -> Iterator[trio.CancelScope]:
        """Shield the block from cancellation, but neither longer than `seconds` nor from `abort`."""
        with trio.move_on_after(seconds, shield=True) as shield:
            if self.scope.cancel_called:
                shield.cancel()
            self._shields.add(shield)
            try:
                yield shield
            finally:
                self._shields.discard(shield)


@attrs.frozen
class Guard:
    """Runs an application for one connection.

    An exception becomes one line of the log, within the limits of such lines, and status 500 if the answer has not begun; else the connection is
    cut, so that a partial answer does not look complete. A single send may take `send_seconds`.
    """

    app: ASGIFramework
    abort_scope: AbortScope
    refusals: Refusals
    send_seconds: float
    is_stopping: Callable[[], bool]
    has_client_certificate: bool = attrs.field(default=False, kw_only=True)

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Handle one request, or one WebSocket of the application's own."""
        if self.has_client_certificate:
            scope = cast("Scope", {**scope, CLIENT_CERTIFICATE: True})
        if scope["type"] == "http":
            await _Call(self, receive, send).run(scope)
        elif scope["type"] == "websocket":
            with self.log_failures("GET", scope):
                await self.app(scope, receive, send)

    @contextmanager
    def log_failures(self, method: str, scope: HTTPScope | WebsocketScope) -> Iterator[None]:
        """Log failures of the application; cancellation goes on."""
        try:
            yield
        except ClientGoneError:
            # The application learned of the end by this error.
            pass
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this request's
            self._log_failure(method, scope, error)
        except BaseExceptionGroup as group:
            # It failed while it was being cancelled: the failure stays here, the cancellation goes on.
            errors, others = group.split(Exception)
            if errors is not None:
                self._log_failure(method, scope, errors)
            assert others is not None
            raise others from None

    def _log_failure(self, method: str, scope: HTTPScope | WebsocketScope, error: Exception) -> None:
        if isinstance(error, ExceptionGroup) and error.split(ClientGoneError)[1] is None:
            return
        self.refusals.log_failure(
            "request failed", address_of(scope), error, method=method, path=scope["path"]
        )


@attrs.define
class _Call:
    """One HTTP request."""

    guard: Guard
    receive_event: ASGIReceiveCallable
    send_event: ASGISendCallable
    is_begun: bool = False
    is_finished: bool = False
    is_disconnected: bool = False
    receiving: set[trio.CancelScope] = attrs.Factory(set)

    async def run(self, scope: HTTPScope) -> None:
        with self.guard.log_failures(scope["method"], scope):
            await self.guard.app(scope, self.receive, self.send)
        if self.is_finished or self.is_disconnected:
            return
        if self.is_begun:
            self.guard.abort_scope.abort()
        else:
            with self.guard.log_failures(scope["method"], scope):
                await self._send_failure()

    async def receive(self) -> ASGIReceiveEvent:
        """Receive as ASGI says, also after the answer is complete."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self.is_disconnected:
            with trio.CancelScope() as scope:
                self.receiving.add(scope)
                try:
                    event = await self.receive_event()
                finally:
                    self.receiving.discard(scope)
                self.is_disconnected = event["type"] == "http.disconnect"
                return event
        return {"type": "http.disconnect"}

    async def send(self, message: ASGISendEvent) -> None:
        """Send, shielded from cancellation within the time limit."""
        if message["type"] == "http.response.start":
            self.is_begun = True
            if self.guard.is_stopping():
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        with self.guard.abort_scope.shield(self.guard.send_seconds) as shield:
            if is_last:
                await self._send_last(message)
            else:
                await self.send_event(message)
        if shield.cancelled_caught:
            self.guard.abort_scope.abort()
            await trio.lowlevel.checkpoint()

    async def _send_last(self, message: ASGISendEvent) -> None:
        """Send the end of an answer, while the events that the application did not receive are dropped."""
        self.is_finished = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive_rest)
            await self.send_event(message)
            nursery.cancel_scope.cancel()

    async def _receive_rest(self) -> None:
        while (await self.receive_event())["type"] != "http.disconnect":
            pass
        # Tasks of the application that still wait to receive get the end, too.
        self.is_disconnected = True
        for scope in self.receiving:
            scope.cancel()

    async def _send_failure(self) -> None:
        problem = Problem.of(500, "the server failed to answer; the failure is in its log")
        await send_problem(self.send, problem)
