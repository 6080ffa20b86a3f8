"""A small client of its own, which follows one room, and which may have a fault."""

import json
from itertools import count
from random import Random
from typing import Any, Literal, TypeAlias
from urllib.parse import urlencode

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from broker.conformance.room import ROOM
from tests.conformance.memory import Surroundings

Fault: TypeAlias = Literal[
    "joins without since",
    "never moves its position",
    "hammers",
    "ignores after_ms",
    "has no heartbeat",
    "dies of an unknown type",
    "dies of an unknown field",
    "ignores recovered",
    "ignores gap",
    "compares offsets of two epochs",
    "returns after 40xx",
    "returns after 1000",
    "leaves for good on an unknown code",
    "keeps its token",
    "joins a refused room again",
    "joins again when removed",
    "sends again with another id",
    "ignores retry_after_ms",
    "hands over its own chat at the ack",
    "hands over the first page only",
]

PING_SECONDS = 25.0
PONG_SECONDS = 15.0
KNOWN_TYPES = {"joined", "chat", "ack", "error", "left", "gap", "reconnect", "pong", "user_joined"}
KNOWN_FIELDS = {"type", "room", "user_id", "text", "offset", "epoch", "time"}


@attrs.define(eq=False)
class RawClient:
    """Call `run`, which ends when the server refuses the client for good."""

    surroundings: Surroundings
    fault: Fault | None = None
    is_by_address: bool = False
    """Whether it connects to `/ws/{room}`, which joins."""
    random: Random = attrs.Factory(lambda: Random(1))
    ids: Any = attrs.Factory(lambda: count(1))
    position: dict[str, Any] | None = None
    waiting: dict[int, str] = attrs.Factory(dict)
    """Chats without an ack, by id."""
    has_joined: bool = False
    is_out: bool = False
    received: list[dict[str, Any]] = attrs.Factory(list)
    """All messages of the server."""
    come_back_at: float | None = None
    heard_at: float = 0.0

    async def run(self) -> None:
        failures = 0
        token = self.surroundings.token
        while True:
            code = await self.connect(token)
            final = code == 1000 if self.fault != "returns after 1000" else False
            final |= 4000 <= code < 4100 and self.fault != "returns after 40xx"
            final |= code == 4199 and self.fault == "leaves for good on an unknown code"
            if final:
                self.tell(closed=code)
                return
            if self.come_back_at is not None and self.fault != "ignores after_ms":
                await trio.sleep(max(0.0, self.come_back_at - trio.current_time()))
            elif self.fault != "hammers":
                await trio.sleep(self.random.uniform(0.1, min(5.0, 2.0**failures)))
            else:
                await trio.sleep(0.05)
            self.come_back_at = None
            failures += 1
            if self.fault != "keeps its token":
                token = await self.surroundings.get_token()

    def tell(self, **line: object) -> None:
        self.surroundings.tell(**line)

    async def connect(self, token: str) -> int:
        """Use one connection; returns its close code."""
        stream = await self.surroundings.dial()
        code = 1006
        target, subprotocols = "/ws", ["greenroom.v1", f"bearer.{token}"]
        if self.is_by_address:
            target, subprotocols = f"/ws/{ROOM}?{urlencode({'token': token, **(self.position or {})})}", []
        async with trio.open_nursery() as nursery:
            try:
                socket = await wrap_client_stream(nursery, stream, "kit", target, subprotocols=subprotocols)
                nursery.start_soon(self.watch, socket, stream)
                if not self.is_out and not self.is_by_address:
                    await self.send_join(socket)
                while True:
                    text = await socket.get_message()
                    self.heard_at = trio.current_time()
                    await self.receive(socket, json.loads(text))
            except ConnectionClosed as closed:
                if closed.reason is not None:
                    code = closed.reason.code
            nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(stream)
        return code

    async def watch(self, socket: WebSocketConnection, stream: trio.abc.Stream) -> None:
        self.heard_at = trio.current_time()
        while self.fault != "has no heartbeat":
            await trio.sleep_until(self.heard_at + PING_SECONDS)
            if trio.current_time() - self.heard_at >= PING_SECONDS:
                await self.send(socket, type="ping")
                await trio.sleep(PONG_SECONDS)
                if trio.current_time() - self.heard_at >= PONG_SECONDS:
                    await trio.aclose_forcefully(stream)
                    return

    async def send(self, socket: WebSocketConnection, **message: object) -> None:
        await socket.send_message(json.dumps(message))

    async def send_join(self, socket: WebSocketConnection) -> None:
        since = (
            {} if self.position is None or self.fault == "joins without since" else {"since": self.position}
        )
        await self.send(socket, type="join", room=ROOM, id=0, **since)

    async def chat(self, socket: WebSocketConnection, text: str) -> None:
        number = next(self.ids)
        self.waiting[number] = text
        await self.send(socket, type="chat", room=ROOM, text=text, id=number)

    async def receive(self, socket: WebSocketConnection, message: dict[str, Any]) -> None:  # noqa: C901
        self.received.append(message)
        if self.fault == "dies of an unknown type" and message["type"] not in KNOWN_TYPES:
            raise KeyError(message["type"])
        match message["type"]:
            case "joined":
                await self.on_joined(socket, message)
            case "gap":
                self.position = {"offset": message["to"], "epoch": self.position["epoch"]}
                if self.fault != "ignores gap":
                    self.tell(gap=message)
            case "ack":
                text = self.waiting.pop(message["id"], None)
                self.tell(stored=text)
                if self.fault == "hands over its own chat at the ack":
                    self.tell(event={"text": text})
            case "error":
                await self.on_error(socket, message)
            case "left":
                self.tell(left=ROOM)
                self.is_out = True
                if self.fault == "joins again when removed":
                    await self.send_join(socket)
            case "reconnect":
                self.come_back_at = trio.current_time() + message["after_ms"] / 1000
            case _ if "offset" in message:
                await self.on_event(socket, message)

    async def on_joined(self, socket: WebSocketConnection, joined: dict[str, Any]) -> None:
        if self.has_joined and not joined["recovered"] and self.fault != "ignores recovered":
            self.tell(gap=joined)
        for event in joined["messages"]:
            await self.on_event(socket, event)
        if not self.has_joined or self.fault != "never moves its position":
            self.position = {"offset": joined["offset"], "epoch": joined["epoch"]}
        if self.fault == "hands over the first page only" and self.has_joined:
            self.position = {"offset": 1 << 40, "epoch": joined["epoch"]}
        self.has_joined = True
        for number, text in list(self.waiting.items()):
            if self.fault == "sends again with another id":
                del self.waiting[number]
                await self.chat(socket, text)
            else:
                await self.send(socket, type="chat", room=ROOM, text=text, id=number)

    async def on_event(self, socket: WebSocketConnection, event: dict[str, Any]) -> None:
        if self.fault == "dies of an unknown field" and event["type"] == "chat":
            assert KNOWN_FIELDS.issuperset(event)
        is_comparable = (
            event["epoch"] == self.position["epoch"] or self.fault == "compares offsets of two epochs"
        )
        if is_comparable and event["offset"] <= self.position["offset"]:
            return
        if self.fault != "never moves its position":
            self.position = {"offset": event["offset"], "epoch": event["epoch"]}
        self.tell(event=event)
        if event.get("text", "").startswith("say: "):
            await self.chat(socket, event["text"].removeprefix("say: "))

    async def on_error(self, socket: WebSocketConnection, error: dict[str, Any]) -> None:
        if error.get("id") == 0:
            self.tell(refused=error["code"])
            self.is_out = True
            if self.fault == "joins a refused room again":
                await self.send_join(socket)
        elif "retry_after_ms" not in error:
            del self.waiting[error["id"]]
            self.tell(refused=error["code"])
        else:
            if self.fault != "ignores retry_after_ms":
                await trio.sleep(error["retry_after_ms"] / 1000)
            await self.send(socket, type="chat", room=ROOM, text=self.waiting[error["id"]], id=error["id"])
