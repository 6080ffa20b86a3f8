"""Info and state of connections, as clients are told of them."""

import pytest
from trio.testing import MockClock

from tests.support.node import OpenNode

ANN = {"name": "Ann", "age": 7}


async def test_the_info_of_a_token_goes_with_its_user_everywhere(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        bob = await node.member("bob", "den")
        ann = await node.client("ann", "den", info=ANN)
        joined = await ann.receive()
        connection = joined["connection"]
        shown = {"room": "den", "user_id": "ann", "info": ANN}
        told = await bob.receive()
        assert told == {"type": "user_joined", "room_size": 2, "connection": connection, **shown}
        assert await ann.receive() == told
        chat = await ann.ask(type="chat", text="hello")
        heard = await bob.receive()
        assert heard | shown | {"type": "chat", "text": "hello", "offset": chat["offset"]} == heard
        await ann.send(type="publish", event="move", data=1)
        assert (await bob.receive())["info"] == ANN
        users = (await bob.ask(type="presence"))["users"]
        assert users == [
            {"user_id": "bob", "connections": 1},
            {"user_id": "ann", "connections": 1, "info": ANN},
        ]
        assert [each["info"] for each in (await bob.ask(type="history"))["messages"]] == [ANN, ANN]
        await bob.send(type="publish", event="move", data=1)
        assert "info" not in await bob.receive()
        await ann.aclose()
        left = {"type": "user_left", "room_size": 1, "connection": connection, **shown}
        assert await bob.receive() == left


async def test_a_state_is_shown_until_the_connection_ends(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        bob, ann = await node.member("bob", "den"), await node.member("ann", "den")
        await bob.settle()
        assert await ann.ask(type="set_state", state={"typing": True}) == {
            "type": "ack",
            "id": "asked",
            "room": "den",
        }
        told = await bob.receive()
        connection = told.pop("connection")
        assert told == {
            "type": "presence_update",
            "room": "den",
            "user_id": "ann",
            "state": {"typing": True},
        }
        listed = await bob.ask(type="presence", by="connection")
        assert listed["connections"][1] == {
            "user_id": "ann",
            "connection": connection,
            "state": {"typing": True},
        }
        assert (await bob.ask(type="presence", by="count")) == {
            "type": "presence",
            "id": "asked",
            "room": "den",
            "room_size": 2,
            "user_count": 2,
        }
        # One who comes later may have the list with its answer.
        cas = await node.client("cas", "den", target=f"/ws/den?token={node.token('cas')}&presence=connection")
        joined = await cas.receive()
        assert joined["connections"][1]["state"] == {"typing": True}
        await ann.ask(type="set_state", state=None)
        await bob.settle()
        assert "state" not in (await bob.ask(type="presence", by="connection"))["connections"][1]
        await ann.ask(type="set_state", state=0)
        assert [told["type"] for told in await bob.settle()] == ["presence_update"]
        await ann.aclose()
        told = await bob.receive()
        assert (told["type"], told["connection"]) == ("user_left", connection)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"state": "x" * 63}, "invalid_message"),
        ({"state": 1, "room": "elsewhere"}, "not_in_room"),
        ({}, "invalid_message"),
        ({"state": 2**64}, "invalid_message"),
    ],
)
async def test_a_state_that_cannot_be_shown_is_refused(
    open_node: OpenNode, autojump_clock: MockClock, message: dict[str, object], code: str
) -> None:
    async with open_node(limits={"state_bytes": 64}) as node:
        ann = await node.member("ann", "den")
        assert (await ann.ask(type="set_state", state="x" * 62))["type"] == "ack"
        await ann.settle()
        assert (await ann.ask(type="set_state", **message))["code"] == code
        assert await ann.settle() == []


async def test_a_hidden_connection_shows_no_state(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        ann = await node.client("ann", "den", is_hidden=True)
        await ann.settle()
        assert (await ann.ask(type="set_state", state=1))["code"] == "forbidden"


async def test_a_new_token_with_another_info_is_an_update(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        bob, ann = await node.member("bob", "den"), await node.member("ann", "den", info=ANN)
        await ann.ask(type="join", room="attic")
        await ann.ask(type="set_state", room="den", state=1)
        await bob.settle()
        await ann.settle()
        assert (await ann.ask(type="refresh", token=node.token("ann", info="new")))["type"] == "refreshed"
        [told] = await bob.settle()
        assert (told["type"], told["info"], told["state"]) == ("presence_update", "new", 1)
        assert [(told["room"], told["info"]) for told in await ann.settle()] == [
            ("den", "new"),
            ("attic", "new"),
        ]
        await ann.ask(type="refresh", token=node.token("ann", info="new"))
        assert await bob.settle() == []
        await ann.ask(type="refresh", token=node.token("ann"))
        [told] = await bob.settle()
        assert (told["type"], told.get("info"), told["state"]) == ("presence_update", None, 1)
        assert (await ann.ask(type="chat", room="den", text="x"))["type"] == "ack"
        assert "info" not in (await bob.receive())


async def test_a_rule_keeps_a_room_to_names(open_node: OpenNode, autojump_clock: MockClock) -> None:
    rules = [{"pattern": "huge.*", "presence_data": False}]
    async with open_node(rooms=rules) as node:
        bob, ann = await node.member("bob", "huge.1"), await node.member("ann", "huge.1", info=ANN)
        assert await bob.receive() == {
            "type": "user_joined",
            "room": "huge.1",
            "user_id": "ann",
            "room_size": 2,
        }
        await ann.ask(type="chat", text="x")
        assert "info" not in await bob.receive()
        assert (await ann.ask(type="set_state", state=1))["code"] == "forbidden"
        await ann.ask(type="refresh", token=node.token("ann", info="new"))
        assert await bob.settle() == []
        assert (await bob.ask(type="presence"))["users"][1] == {"user_id": "ann", "connections": 1}


async def test_a_list_at_a_join_needs_the_permission(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        ann = await node.client("ann", can=["join"])
        assert (await ann.ask(type="join", room="den", presence="user"))["code"] == "forbidden"
        joined = await ann.ask(type="join", room="den")
        assert "users" not in joined
        bob = await node.client("bob")
        assert (await bob.ask(type="join", room="den", presence="count"))["user_count"] == 2


async def test_every_connection_has_its_own_id(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        clients = [await node.client("ann", "den") for _ in range(3)]
        ids = [(await client.receive())["connection"] for client in clients]
        again = await clients[0].ask(type="join", room="attic")
        assert again["connection"] == ids[0]
        assert len(set(ids)) == 3
        listed = await clients[2].ask(type="presence", by="connection", room="den")
        assert [each["connection"] for each in listed["connections"]] == ids
