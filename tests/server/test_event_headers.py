"""The header of an event, by each way to publish one: what filters, hooks and other protocols know of it."""

import json

import attrs
import pytest

from broker.model import EventHeader
from tests.support.served import Client, Served


@attrs.frozen
class Scene:
    """A broker, and a member of the room `den`."""

    served: Served
    ann: Client

    async def publish(self, way: str) -> None:
        message = {"type": "order", "event": "e", "user_id": "u"}
        if way == "a chat":
            await self.ann.ask("ack", type="chat", text="hi", id=1)
        elif way == "a chat with a new token":
            await self.ann.ask("refreshed", type="refresh", token=self.served.token("ann"))
            await self.ann.ask("ack", type="chat", text="hi", id=1)
        elif way == "a publish":
            await self.ann.ask("ack", type="publish", event="move", data={"type": "chat"}, id=1)
        elif way == "the program":
            await self.served.broker.publish("den", message)
        elif way == "the API":
            await self.post("/api/rooms/den/messages", json.dumps(message))
        elif way == "a broadcast":
            await self.post("/api/broadcast", json.dumps({"rooms": ["den"], "message": message}))
        elif way == "a batch":
            await self.post("/api/messages", json.dumps({"room": "den", "message": message}) + "\n")

    async def post(self, path: str, content: str) -> None:
        answer = await self.served.http.post(path, content=content)
        answer.raise_for_status()


@pytest.mark.parametrize(
    ("way", "header"),
    [
        ("a chat", EventHeader("chat", None, "ann")),
        ("a chat with a new token", EventHeader("chat", None, "ann")),
        ("a publish", EventHeader("event", "move", "ann")),
        ("the program", EventHeader("order")),
        ("the API", EventHeader("order")),
        ("a broadcast", EventHeader("order")),
        ("a batch", EventHeader("order")),
    ],
)
async def test_an_event_has_the_header_of_how_it_was_published(serve, way, header):
    async with serve() as served, served.connect("/ws/den", "ann") as ann:
        await Scene(served, ann).publish(way)
        run = await served.broker.rooms.read("den", None, 10, reverse=False)
        assert [event.header for event in run.events] == [header]
