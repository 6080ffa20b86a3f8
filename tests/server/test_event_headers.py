"""The header of an event, by each way to publish one: what filters, hooks and other protocols know of it."""

import json

import attrs
import msgspec
import pytest

from broker.model import EventHeader
from tests.support.served import Client, Serve, Served


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


async def read_headers(served: Served, room: str = "den") -> list[EventHeader]:
    run = await served.broker.rooms.read(room, None, 100, reverse=False)
    return [event.header for event in run.events]


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
        [found] = await read_headers(served)
        assert (found.connection is None) is (header.sender is None)
        assert msgspec.structs.replace(found, connection=None) == header


async def test_the_events_of_a_connection_name_it_in_all_its_rooms(serve: Serve) -> None:
    async with serve() as served, serve() as other_node:
        connections = []
        for number, (node, user) in enumerate(
            [(served, "ann"), (served, "ann"), (served, "bob"), (other_node, "ann")]
        ):
            async with node.connect("/ws/den", user) as client:
                await client.ask("joined", type="join", room="attic")
                await client.ask("ack", type="chat", text="hi", id=f"a{number}")
                await client.ask("ack", type="publish", event="e", data=None, id=f"b{number}")
                await client.ask("refreshed", type="refresh", token=node.token(user))
                await client.ask("ack", type="chat", text="hi", room="attic", id=f"c{number}")
            headers = (await read_headers(node))[-2:] + (await read_headers(node, "attic"))[-1:]
            assert len({header.connection for header in headers}) == 1
            connections.append(headers[0].connection)
        assert len(set(connections)) == len(connections)
