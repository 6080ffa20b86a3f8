"""All that a served broker sends in whole sessions is as the JSON Schema of the protocol says."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import attrs
from websockets.exceptions import ConnectionClosed

from broker.errors import CloseCode, EngineUnavailableError, ErrorCode
from broker.hooks import Hook
from broker.protocol.messages import MESSAGE_TYPES
from tests.support.documents import validator
from tests.support.engines import LongWayEngine
from tests.support.served import Client, Served

MESSAGES, CLOSINGS = validator("ServerMessage", is_closed=True), validator("Closing", is_closed=True)


class FailingEngine(LongWayEngine):
    """Stores nothing in the room `broken`."""

    async def append(self, room: str, *args: Any) -> Any:
        if room == "broken":
            raise EngineUnavailableError("for the test")
        return await super().append(room, *args)


@attrs.define
class Seen:
    """The messages of a session, and what is to be seen in all of them."""

    messages: list[dict[str, Any]] = attrs.Factory(list)

    @property
    def types(self) -> set[str]:
        return {message["type"] for message in self.messages}

    @property
    def codes(self) -> set[str]:
        return {message["code"] for message in self.messages if message["type"] == "error"}

    async def read(self, client: Client, kind: str) -> dict[str, Any]:
        """Read until a message of a type came."""
        while True:
            message = await client.receive()
            self.messages.append(message)
            if message["type"] == kind:
                return message

    async def read_to_end(self, client: Client) -> None:
        with suppress(ConnectionClosed):
            while True:
                self.messages.append(await client.receive())


async def test_whole_sessions_are_as_documented(serve) -> None:
    engine = FailingEngine(wall_clock=lambda: 1.8e9, idempotency_seconds=300)
    seen = Seen()
    settings = {
        "rooms": [{"pattern": "full", "max_members": 1}],
        "room": {"gather_above": 2, "gather_seconds": 0.01},
        "limits": {
            "rooms_per_connection": 2,
            "text_characters": 20,
            "messages_burst": 60,
            "messages_per_second": 0.01,
        },
    }
    async with (
        serve(parts={"engine": engine, "hooks": [Hook(answer, on=["call"])]}, **settings) as served,
        served.connect("/ws/lobby", "ann") as ann,
        served.connect("/ws", "bob") as bob,
    ):
        await talk(served, ann, bob, seen)
        await bob.send(type="join", room="full")
        await seen.read(bob, "joined")
        await be_refused(ann, seen)
        async with served.connect("/ws/lobby", "cid"):
            await seen.read(bob, "presence_changed")
        served.broker.begin_drain()
        await seen.read(bob, "reconnect")
        await seen.read_to_end(bob)
        await seen.read_to_end(ann)
    for message in seen.messages:
        MESSAGES.validate(message)
    assert seen.types == {*MESSAGE_TYPES, "chat", "event", "order"} - {"gap"}
    # Only a room with code of its own fails so: tests/room_actors.
    assert seen.codes == set(ErrorCode) - {ErrorCode.FAILED}


async def answer(ask: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"allow": True, "data": ask["call"]["data"]}


async def talk(served: Served, ann: Client, bob: Client, seen: Seen) -> None:
    first = await seen.read(ann, "joined")
    await bob.send(type="join", room="lobby", id="j")
    await seen.read(bob, "joined")
    await seen.read(ann, "user_joined")
    for message in (
        {"type": "chat", "text": "much more than twenty characters", "id": 1},
        {"type": "publish", "event": "move", "data": {"x": [1, None]}, "id": "two", "echo": False},
        {"type": "chat", "text": "1:0", "tags": {"kind": "goal"}, "id": 4},
        {"type": "publish", "event": "typing", "data": None, "ephemeral": True, "id": 3},
    ):
        await ann.send(**message)
        await seen.read(ann, "ack")
    await served.broker.publish("lobby", {"type": "order", "n": 1})
    await served.broker.publish("lobby", {"type": "order", "n": 2}, ephemeral=True)
    await served.broker.publish("lobby", {"type": "result", "id": 9, "data": 2})
    assert "room" in await seen.read(ann, "result")
    for request, answer in (
        ({"type": "presence"}, "presence"),
        ({"type": "set_state", "state": {"typing": True}}, "presence_update"),
        ({"type": "history", "limit": 10}, "history"),
        (
            {"type": "join", "room": "lobby", "since": {name: first[name] for name in ("offset", "epoch")}},
            "joined",
        ),
        ({"type": "call", "method": "roll", "data": [1]}, "result"),
        ({"type": "ping"}, "pong"),
        ({"type": "refresh", "token": served.token("ann")}, "refreshed"),
    ):
        await ann.send(**request, id=9)
        await seen.read(ann, answer)
    await bob.send(type="leave", room="lobby")
    await seen.read(bob, "left")
    await seen.read(ann, "user_left")
    await bob.send(type="join", room="lobby")
    await seen.read(bob, "joined")
    await served.http.delete("/api/rooms/lobby/users/bob")
    await seen.read(bob, "left")
    await bob.send(type="join", room="lobby")
    await seen.read(bob, "joined")


async def be_refused(ann: Client, seen: Seen) -> None:
    for text in ("{", "[]", '{"type":"dance","id":1}', '{"type":"chat","text":"\\ud800","id":2}'):
        await ann.connection.send(text)
        await seen.read(ann, "error")
    for message in (
        {"type": "chat", "room": "elsewhere", "text": "hi"},
        {"type": "join", "room": "user_bob"},
        {"type": "join", "room": "full"},
        {"type": "join", "room": "../etc"},
    ):
        await ann.send(**message)
        await seen.read(ann, "error")
    await ann.send(type="join", room="broken")
    await seen.read(ann, "joined")
    await ann.send(type="join", room="one too many")
    await seen.read(ann, "error")
    await ann.send(type="chat", room="broken", text="hi", id=1)
    await seen.read(ann, "error")
    while "rate_limited" not in seen.codes:
        await ann.send(type="leave", room="nowhere")
        await seen.read(ann, "error")


async def test_event_streams_are_as_documented(serve) -> None:
    async with serve() as served:
        await served.broker.publish("lobby", {"type": "order", "n": 1})
        epoch = (await served.http.get("/api/rooms/lobby")).json()["epoch"]
        path = f"/api/rooms/lobby/events?last_event_id={epoch}:0&token={served.token('ann')}"
        events = []
        async with served.http.stream("GET", path, headers={"Authorization": ""}) as response:
            lines = response.aiter_lines()
            async for line in lines:
                events.append(line)
                if "user_joined" in line:
                    await served.http.delete("/api/users/ann")
        kinds = [json.loads(line.removeprefix("data:")) for line in events if line.startswith("data:")]
        *messages, closing = kinds
        assert {"joined", "order", "user_joined"} <= {message["type"] for message in messages}
        for message in messages:
            MESSAGES.validate(message)
        CLOSINGS.validate(closing)
        assert closing["code"] == CloseCode.REMOVED
