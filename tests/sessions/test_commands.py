"""Every command of the protocol, through a whole connection in memory."""

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from broker.errors import CloseCode
from tests.support.node import OpenNode


async def test_chat_reaches_everyone_and_is_acknowledged(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        ann, bob = await node.member("ann", "lobby"), await node.member("bob", "lobby")
        await ann.receive_type("user_joined")
        await ann.send(type="chat", text="hi", id=7)
        expected = {
            "type": "chat",
            "room": "lobby",
            "user_id": "ann",
            "text": "hi",
            "offset": 1,
            "time": int(node.wall_clock() * 1000),
        }
        heard, answer = await bob.receive(), (await ann.receive(), await ann.receive())
        epoch = heard.pop("epoch")
        assert heard == expected
        assert answer == (
            {**expected, "epoch": epoch},
            {"type": "ack", "id": 7, "room": "lobby", "offset": 1, "epoch": epoch},
        )
        await ann.send(type="chat", text="no id, no ack")
        assert [m["type"] for m in await ann.settle()] == ["chat"]


@pytest.mark.parametrize("room", ["lobby", "caf\xe9 \u2713 %2F", "a" * 128])
async def test_a_room_may_be_named_in_any_script(
    open_node: OpenNode, autojump_clock: MockClock, room: str
) -> None:
    async with open_node() as node:
        ann = await node.member("ann", room)
        assert (await ann.ask(type="chat", text="x"))["room"] == room
        assert (await ann.ask(type="chat", text="x", room=room, id="again"))["offset"] == 2


@pytest.mark.parametrize(
    ("length", "truncated"), [(0, False), (1, False), (10, False), (11, True), (1000, True)]
)
async def test_a_long_text_is_cut_and_says_so(
    open_node: OpenNode, autojump_clock: MockClock, length: int, truncated: bool
) -> None:
    async with open_node(limits={"text_characters": 10}) as node:
        ann = await node.member("ann", "lobby")
        await ann.send(type="chat", text="\U0001f600" * length)
        chat = await ann.receive()
        assert chat["text"] == "\U0001f600" * min(length, 10)
        assert chat.get("truncated", False) is truncated


async def test_the_same_id_of_the_same_user_is_said_once(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        ann, bob = await node.member("ann", "lobby"), await node.member("bob", "lobby")
        first = await ann.ask(type="chat", text="one", id="x")
        again = await (await node.member("ann", "lobby")).ask(type="chat", text="one", id="x")
        assert first == again
        # An id is the user's own, and 1 is not "1".
        assert (await bob.ask(type="chat", text="two", id="x"))["offset"] == 2
        assert (await ann.ask(type="chat", text="three", id=1))["offset"] == 3
        assert (await ann.ask(type="chat", text="four", id="1"))["offset"] == 4
        texts = [message["text"] for message in await bob.settle() if message["type"] == "chat"]
        assert texts == ["three", "four"]
        await trio.sleep(301)
        assert (await ann.ask(type="chat", text="five", id="x"))["offset"] == 5


@pytest.mark.parametrize("data", [None, 0, "x", [1, {"a": None}], {"deep": [[[]]]}, 1e300, "\u2028"])
async def test_an_event_of_ones_own_carries_any_json(
    open_node: OpenNode, autojump_clock: MockClock, data: Any
) -> None:
    async with open_node() as node:
        ann = await node.member("ann", "lobby")
        await ann.send(type="publish", event="move", data=data, id=1)
        event, ack = await ann.receive(), await ann.receive()
        assert (event["type"], event["event"], event["user_id"]) == ("event", "move", "ann")
        assert event["data"] == data
        assert event["offset"] == ack["offset"] == 1
        history = await ann.ask(type="history")
        assert history["messages"] == [event]


async def test_an_ephemeral_event_has_no_place_in_history(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        ann = await node.member("ann", "lobby")
        await ann.send(type="publish", event="typing", data=True, ephemeral=True, id=1)
        event, ack = await ann.receive(), await ann.receive()
        assert "offset" not in event
        assert "epoch" not in event
        assert ack == {"type": "ack", "room": "lobby", "id": 1}
        history = await ann.ask(type="history")
        assert (history["messages"], history["offset"]) == ([], 0)


@pytest.mark.parametrize("request_id", ["x", "", 0, -1, 2**53])
async def test_a_reply_carries_the_id_of_its_request(
    open_node: OpenNode, autojump_clock: MockClock, request_id: Any
) -> None:
    async with open_node() as node:
        ann = await node.member("ann", "lobby")
        requests: list[dict[str, Any]] = [
            {"type": "ping"},
            {"type": "chat", "text": "x"},
            {"type": "publish", "event": "e", "data": 1, "id": 99},
            {"type": "join", "room": "other"},
            {"type": "presence"},
            {"type": "history"},
            {"type": "leave", "room": "other"},
            {"type": "refresh", "token": node.token("ann")},
            {"type": "chat", "text": "x", "room": "nowhere"},
            {"type": "chat"},
            {"type": "dance"},
        ]
        replies = [await ann.ask(**{"id": request_id, **request}) for request in requests]
        assert [reply["type"] for reply in replies] == [
            *("pong", "ack", "ack", "joined", "presence", "history", "left", "refreshed"),
            *("error", "error", "error"),
        ]
        assert [type(reply["id"]) for reply in replies] == [type(request_id)] * 2 + [int] + [
            type(request_id)
        ] * 8


async def test_a_ping_without_an_id_is_answered_without_one(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        ann = await node.client("ann")
        await ann.send(type="ping", id=None)
        assert await ann.receive() == {"type": "pong"}


async def test_the_first_message_of_a_connection_to_a_room_is_its_joined(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        await node.member("bob", "lobby")
        ann = await node.client("ann", "lobby")
        joined = await ann.receive()
        assert joined.pop("epoch")
        assert joined.pop("connection")
        assert joined == {
            "type": "joined",
            "room": "lobby",
            "room_size": 2,
            "offset": 0,
            "recovered": False,
            "messages": [],
        }
        assert await ann.receive() == {
            "type": "user_joined",
            "room": "lobby",
            "user_id": "ann",
            "room_size": 2,
        }


async def test_a_connection_to_no_room_is_in_none(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        ann = await node.client("ann")
        assert await ann.settle() == []
        assert node.rooms.statistics().members == 0


async def test_one_connection_in_many_rooms(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        ann, bob = await node.client("ann", "a"), await node.client("bob")
        for room in "bcd":
            assert (await ann.ask(type="join", room=room))["room"] == room
        await ann.settle()
        for room in "abcd":
            assert (await bob.ask(type="join", room=room))["room_size"] == (1 if room == "e" else 2)
            assert (await ann.receive_type("user_joined"))["room"] == room
            await bob.send(type="chat", text="hi", room=room)
            assert (await ann.receive_type("chat"))["room"] == room
        assert node.rooms.statistics().members == 8


async def test_joining_twice_is_being_in_once(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        ann, bob = await node.member("ann", "lobby"), await node.member("bob", "lobby")
        again = await bob.ask(type="join", room="lobby")
        assert again["room_size"] == 2
        await bob.ask(type="leave", room="lobby")
        told = [(message["type"], message["room_size"]) for message in await ann.settle()]
        assert told == [("user_joined", 2), ("user_left", 1)]
        assert (await bob.ask(type="chat", text="x"))["code"] == "not_in_room"


async def test_a_leave_is_answered_and_ends_the_delivery(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        ann, bob = await node.member("ann", "lobby"), await node.member("bob", "lobby")
        await bob.send(type="leave", id=1)
        assert await bob.receive() == {"type": "left", "room": "lobby", "id": 1}
        await ann.send(type="chat", text="is he gone?")
        assert await bob.settle() == []
        assert (await ann.receive_type("user_left")) == {
            "type": "user_left",
            "room": "lobby",
            "user_id": "bob",
            "room_size": 1,
        }
        # The connection stays, and may come back.
        assert (await bob.ask(type="join", room="lobby"))["offset"] == 1


async def test_events_sent_before_a_leave_are_published_before_it(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        ann, bob = await node.member("ann", "lobby"), await node.member("bob", "lobby")
        await ann.receive()
        for i in range(5):
            await bob.send(type="chat", text=str(i))
        await bob.send(type="leave")
        heard = [message.get("text", message["type"]) for message in await ann.settle()]
        assert heard == ["0", "1", "2", "3", "4", "user_left"]


async def test_presence_counts_the_connections_of_each_user(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        ann = await node.member("ann", "lobby")
        for user in ("bob", "ann", "ann"):
            await node.member(user, "lobby")
        presence = await ann.ask(type="presence")
        assert presence["room_size"] == 4
        assert {user["user_id"]: user["connections"] for user in presence["users"]} == {"ann": 3, "bob": 1}


async def test_history_in_either_direction_and_in_pages(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node(history={"page_messages": 4}) as node:
        ann = await node.member("ann", "lobby")
        for i in range(1, 7):
            await ann.ask(type="chat", text=str(i), id=i)
        joined = await ann.ask(type="join", room="lobby")

        async def texts(**fields: Any) -> list[str]:
            page = await ann.ask(type="history", **fields)
            assert (page["offset"], page["epoch"]) == (6, joined["epoch"])
            return [message["text"] for message in page["messages"]]

        since = {"offset": 3, "epoch": joined["epoch"]}
        assert await texts() == ["1", "2", "3", "4"]
        assert await texts(limit=2) == ["1", "2"]
        assert await texts(limit=100) == ["1", "2", "3", "4"]
        assert await texts(since=since) == ["4", "5", "6"]
        assert await texts(since={"offset": 6, "epoch": joined["epoch"]}) == []
        assert await texts(since={"offset": 3, "epoch": "another"}) == ["1", "2", "3", "4"]
        assert await texts(limit=2, reverse=True) == ["6", "5"]
        assert await texts(since=since, reverse=True, limit=2) == ["6", "5"]


async def test_a_join_with_a_position_recovers_the_missed_events(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node(history={"messages": 3}) as node:
        ann = await node.member("ann", "lobby")
        acks = [await ann.ask(type="chat", text=str(i), id=i) for i in range(1, 6)]
        epoch = acks[0]["epoch"]
        bob = await node.client("bob")

        async def missed(offset: int, epoch: str) -> tuple[bool, list[int]]:
            joined = await bob.ask(type="join", room="lobby", since={"offset": offset, "epoch": epoch})
            assert (joined["offset"], joined["epoch"]) == (5, acks[0]["epoch"])
            return joined["recovered"], [message["offset"] for message in joined["messages"]]

        assert await missed(5, epoch) == (True, [])
        assert await missed(4, epoch) == (True, [5])
        assert await missed(2, epoch) == (True, [3, 4, 5])
        assert await missed(1, epoch) == (False, [])
        assert await missed(6, epoch) == (False, [])
        assert await missed(4, "another") == (False, [])
        # The same as parameters of the request.
        cyd = await node.client(
            target=node.target("lobby", token=node.token("cyd"), extra=f"&offset=3&epoch={epoch}")
        )
        joined = await cyd.receive()
        assert (joined["recovered"], [m["text"] for m in joined["messages"]]) == (True, ["4", "5"])


@pytest.mark.parametrize(
    "can", [None, ["join"], ["join", "chat", "publish", "presence"], ["join", "history"]]
)
async def test_earlier_events_are_recovered_only_with_the_history_capability(
    open_node: OpenNode, autojump_clock: MockClock, can: list[str] | None
) -> None:
    claims = {} if can is None else {"can": can}
    expected = (True, ["1", "2", "3"]) if can is None or "history" in can else (False, [])
    async with open_node() as node:
        eve = await node.member("eve", "lobby")
        acks = [await eve.ask(type="chat", text=str(i), id=i) for i in range(1, 4)]
        epoch = acks[0]["epoch"]
        since = {"offset": 0, "epoch": epoch}

        def recovered(joined: dict[str, Any]) -> tuple[bool, list[str]]:
            assert (joined["offset"], joined["epoch"]) == (3, epoch)
            return joined["recovered"], [message["text"] for message in joined["messages"]]

        bob = await node.client("bob", **claims)
        for _ in range(2):  # the second time, it is in the room already
            assert recovered(await bob.ask(type="join", room="lobby", since=since)) == expected
        home = await node.client(
            target=node.target("lobby", token=node.token("cyd", **claims), extra=f"&offset=0&epoch={epoch}")
        )
        assert recovered(await home.receive()) == expected
        # A new token counts from then on.
        dan = await node.client("dan")
        await dan.ask(type="refresh", token=node.token("dan", **claims))
        assert recovered(await dan.ask(type="join", room="lobby", since=since)) == expected
        assert (await eve.ask(type="chat", text="4", id=4))["offset"] == 4
        assert (await bob.receive_type("chat"))["text"] == "4"


async def test_a_returning_client_gets_each_event_once(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        ann, bob = await node.member("ann", "lobby"), await node.member("bob", "lobby")
        await ann.send(type="chat", text="1")
        seen = [await bob.receive_type("chat")]
        await bob.aclose()
        for i in range(2, 5):
            await ann.send(type="chat", text=str(i))
        extra = f"&offset={seen[-1]['offset']}&epoch={seen[-1]['epoch']}"
        bob = await node.client(target=node.target("lobby", token=node.token("bob"), extra=extra))
        await ann.send(type="chat", text="5")
        joined = await bob.receive()
        seen += joined["messages"]
        seen += [message for message in await bob.settle() if message["type"] == "chat"]
        assert [message["text"] for message in seen] == ["1", "2", "3", "4", "5"]
        assert joined["recovered"]


async def test_unknown_fields_are_ignored(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        ann = await node.member("ann", "lobby")
        reply = await ann.ask(type="ping", text=3, room=None, surprise={"a": 1})
        assert reply == {"type": "pong", "id": "asked"}


async def test_a_member_removed_from_its_home_is_closed_and_from_elsewhere_told(
    open_node: OpenNode,
    autojump_clock: MockClock,
) -> None:
    async with open_node() as node:
        ann, observer = await node.member("ann", "lobby"), await node.member("eve", "lobby")
        await ann.ask(type="join", room="other")
        assert await node.rooms.remove("other", "ann") == 1
        assert (await ann.receive_type("left")) == {"type": "left", "room": "other"}
        assert (await ann.ask(type="chat", text="x", room="other"))["code"] == "not_in_room"
        assert (await ann.ask(type="chat", text="x", id=1))["type"] == "ack"
        assert await node.rooms.remove("lobby", "ann") == 1
        messages, code = await ann.read_to_end()
        assert (messages[-1]["type"], code) == ("left", CloseCode.REMOVED)
        await trio.sleep(2)
        left = [message for message in await observer.settle() if message["type"] == "user_left"]
        assert [message["user_id"] for message in left] == ["ann"]


async def test_a_message_with_escaped_text_comes_out_as_it_went_in(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    text = 'quotes " and \\ and \u0000 and \U0001f600 and </script>'
    async with open_node() as node:
        ann = await node.member("ann", "lobby")
        await ann.connection.send_message(json.dumps({"type": "chat", "text": text}))
        assert (await ann.receive())["text"] == text
