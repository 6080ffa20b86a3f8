"""A user's connection, as a test has it."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import count
from typing import Any

import attrs
import msgspec
import trio
from msgspec import UNSET
from trio.testing import wait_all_tasks_blocked
from trio_websocket import ConnectionClosed, WebSocketConnection

from broker.errors import GreenroomError
from broker.model import Position
from broker.testing.line import Line
from broker.testing.loops import BrokerLoop, in_broker
from broker.wakeup import Wakeup


class RefusedError(GreenroomError):
    """A request of a member was answered with an `error`."""

    def __init__(self, message: dict[str, Any]) -> None:
        super().__init__(f"{message['code']}: {message['message']}")
        self.code: str = message["code"]
        self.retry_after_ms: int | None = message.get("retry_after_ms")


@attrs.define(eq=False)
class Visitor:
    """A connection of the test, over WebSocket frames in memory; it is in one room."""

    user_id: str
    room: str
    heard: list[dict[str, Any]] = attrs.field(factory=list, repr=False)
    """All messages from the room and the server, the oldest first; answers to requests are not among them."""
    closed_with: int | None = None
    """The close code, once the connection has ended."""
    broker_loop: BrokerLoop = attrs.field(kw_only=True, repr=False)
    _open: "Callable[[Visitor], Awaitable[tuple[Line, WebSocketConnection]]]" = attrs.field(
        kw_only=True, repr=False
    )
    claims: Mapping[str, Any] = attrs.field(kw_only=True, repr=False)
    """The claims of its token, beside the name and the time until which it holds."""
    position: Position | None = None
    """The newest position of the room that was heard of."""
    _line: Line = attrs.field(init=False, repr=False)
    _socket: WebSocketConnection = attrs.field(init=False, repr=False)
    _is_joined: bool = False
    _answers: dict[str, dict[str, Any]] = attrs.field(factory=dict, repr=False)
    _ids: "count[int]" = attrs.field(kw_only=True, repr=False)
    _has_read: Wakeup = attrs.field(factory=Wakeup, repr=False)

    @in_broker
    async def call(self, method: str, data: object = UNSET, *, request_id: str | None = None) -> Any:
        """Call a method of the room's code; returns its result.

        :raises ConnectionError: if the connection ends before, as for all requests.
        :raises RefusedError: if it is answered with an error.
        """
        message: dict[str, Any] = {"type": "call", "method": method}
        if data is not UNSET:
            message["data"] = data
        return (await self._ask(message, request_id)).get("data")

    @in_broker
    async def chat(self, text: str, *, request_id: str | None = None) -> dict[str, Any]:
        """Send a chat; returns its `ack`.

        :raises RefusedError: if it is answered with an error.
        """
        return await self._ask({"type": "chat", "text": text}, request_id)

    @in_broker
    async def publish(
        self, event: str, data: object, *, request_id: str | None = None, ephemeral: bool = False
    ) -> dict[str, Any]:
        """Publish an event of its own; returns its `ack`.

        :raises RefusedError: if it is answered with an error.
        """
        return await self._ask(
            {"type": "publish", "event": event, "data": data, "ephemeral": ephemeral}, request_id
        )

    @in_broker
    async def ask(self, /, **message: object) -> dict[str, Any]:
        """Send any request, in its room if it names none; returns its answer.

        :raises RefusedError: if it is answered with an error.
        """
        return await self._ask(message, None)

    @in_broker
    async def leave(self) -> None:
        """Leave the room; the connection stays."""
        await self._ask({"type": "leave"}, None)

    @in_broker
    async def drop(self) -> None:
        """Lose the connection, as when a network or a phone goes away."""
        await self._drop()

    @in_broker
    async def reconnect(self) -> None:
        """Connect again, once the connection is lost or the server was started again, as the clients of browsers do.

        In `heard` follow `joined` and then the messages that were missed, if `joined` is `recovered`.

        :raises ConnectionError: if the join is refused.
        """
        await self._drop()
        await self.connect()

    @in_broker
    async def stop_reading(self) -> None:
        """Read nothing more, as a client that hangs or whose network is too slow; the server's writes wait."""
        self._line.stop_reading()

    @in_broker
    async def read_again(self) -> None:
        """Read what has been sent meanwhile, and go on reading."""
        self._line.read_again()
        await wait_all_tasks_blocked()

    def of_type(self, type_: str) -> list[dict[str, Any]]:
        """Return the messages of a type that were heard."""
        return [message for message in self.heard if message["type"] == type_]

    async def connect(self) -> None:
        """Connect and join the room; the world calls it.

        :raises ConnectionError: if the join is refused.
        """
        self.closed_with, self._is_joined = None, False
        self._line, self._socket = await self._open(self)
        while not self._is_joined and not self._is_closed:
            await self._has_read.wait()
        await wait_all_tasks_blocked()
        if self._is_closed:
            reason = None if self._socket.closed is None else self._socket.closed.reason
            raise ConnectionError(f"{self.closed_with} {reason}")

    @property
    def _is_closed(self) -> bool:
        return self.closed_with is not None

    async def read(self, socket: WebSocketConnection) -> None:
        """Read until the connection ends; the world runs it."""
        try:
            while True:
                self._note(msgspec.json.decode(await socket.get_message()))
                self._has_read.set()
        except ConnectionClosed as closed:
            self.closed_with = 1006 if closed.reason is None else closed.reason.code
            self._has_read.set()

    def _note(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
            return
        self.heard.append(message)
        if message.get("room") == self.room and "offset" in message:
            self.position = Position(message["epoch"], message["offset"])
        if message["type"] == "joined":
            self._is_joined = True
            self.heard += message["messages"]

    async def _drop(self) -> None:
        await trio.aclose_forcefully(self._line.client_end)
        await wait_all_tasks_blocked()

    async def _ask(self, message: dict[str, Any], request_id: str | None) -> dict[str, Any]:
        request_id = request_id or f"request {next(self._ids)}"
        self._answers.pop(request_id, None)
        request = {"room": self.room, **message, "id": request_id}
        with suppress(ConnectionClosed):
            await self._socket.send_message(msgspec.json.encode(request).decode())
        while request_id not in self._answers:
            if self.closed_with is not None:
                raise ConnectionError(f"{self.user_id} was closed with {self.closed_with}")
            await self._has_read.wait()
        await wait_all_tasks_blocked()
        answer = self._answers[request_id]
        if answer["type"] == "error":
            raise RefusedError(answer)
        return answer
