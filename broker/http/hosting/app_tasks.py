"""Hypercorn's tasks for an application, with queues that never block their senders for ever.

Hypercorn 0.18 puts the client's events into a bounded queue. An application may end before it has received all of
them, or its client may be gone while the queue is full. A sender would then wait for ever; so each end of the queue
is closed as soon as its task is gone.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import cast

import attrs
import trio
from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope


class ClientGoneError(OSError):
    """Raised to an application that sends to a client that is gone, as the ASGI specification wants."""


class AppTasks(TaskGroup):
    """Runs the application for each request, or the WebSocket, of one connection."""

    def __init__(self, on_websocket_end: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._on_websocket_end = on_websocket_end
        self._calls: set[_Call] = set()

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start the application; returns the function that puts events into its queue."""
        sender, receiver = trio.open_memory_channel[ASGIReceiveEvent](config.max_app_queue_size)
        call = _Call(scope, sender, receiver, send)
        self._calls.add(call)
        self.spawn(self._run, app, call)
        return call.put

    @property
    def is_busy(self) -> bool:
        """Whether an application still runs."""
        return bool(self._calls)

    def hang_up(self) -> None:
        """End the queues of running applications: nothing more comes from the client.

        The client of a WebSocket is gone then; one of a request may still wait for the answer.
        """
        for call in self._calls:
            call.sender.close()
            call.is_gone = call.is_gone or call.scope["type"] == "websocket"

    def disconnect(self) -> None:
        """End the queues of running applications, and refuse their sends: the connection is closed."""
        for call in self._calls:
            call.sender.close()
            call.is_gone = True

    async def _run(self, app: AppWrapper, call: "_Call") -> None:
        try:
            with call.receiver:
                await app(call.scope, call.receive, call.send, trio.to_thread.run_sync, trio.from_thread.run)
        finally:
            self._calls.discard(call)
            await call.send_event(None)  # noqa: ASYNC102  # cancelled with the rest
        if call.scope["type"] == "websocket":
            # Hypercorn leaves the connection open if it has refused the WebSocket behind the application's back.
            await self._on_websocket_end()


@attrs.define(eq=False)
class _Call:
    """One run of the application."""

    scope: Scope
    sender: "trio.MemorySendChannel[ASGIReceiveEvent]"
    receiver: "trio.MemoryReceiveChannel[ASGIReceiveEvent]"
    send_event: Callable[[ASGISendEvent | None], Awaitable[None]]
    last_event: ASGIReceiveEvent | None = None
    is_gone: bool = False
    """Whether sending is refused."""

    async def put(self, event: ASGIReceiveEvent) -> None:
        """Put an event into the queue; waits for space while the application runs, drops it after that.

        The last one needs no space.
        """
        if event["type"] in {"http.disconnect", "websocket.disconnect"}:
            self.last_event = event
            self.is_gone = event["type"] == "websocket.disconnect"
            self.sender.close()
            return
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.sender.send(event)

    async def receive(self) -> ASGIReceiveEvent:
        """See the ASGI specification."""
        try:
            return await self.receiver.receive()
        except trio.EndOfChannel:
            if self.last_event is not None:
                return self.last_event
            if self.scope["type"] == "websocket":
                return cast("ASGIReceiveEvent", {"type": "websocket.disconnect", "code": 1006})
            return {"type": "http.disconnect"}

    async def send(self, event: ASGISendEvent) -> None:
        """See the ASGI specification.

        :raises ClientGoneError: if it cannot arrive.
        """
        if self.is_gone:
            raise ClientGoneError("the client is gone")
        await self.send_event(event)
