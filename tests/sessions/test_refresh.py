"""A new token during the connection."""

import pytest
import trio
from trio.testing import MockClock

from broker.errors import CloseCode
from tests.support.node import OpenNode


async def test_the_new_token_is_the_one_that_counts(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        ann = await node.member("ann", "lobby")
        token = node.token("ann", ttl_seconds=500, can=["join", "presence"])
        reply = await ann.ask(type="refresh", token=token)
        assert reply == {
            "type": "refreshed",
            "id": "asked",
            "expires_at": int(node.wall_clock() + 500),
            "expires_in_ms": 500_000,
        }
        assert (await ann.ask(type="chat", text="x"))["code"] == "forbidden"
        assert (await ann.ask(type="presence"))["room_size"] == 1
        await ann.ask(type="refresh", token=node.token("ann"))
        assert (await ann.ask(type="chat", text="x"))["type"] == "ack"


async def test_the_present_token_again_tells_the_time_that_it_has_left(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        observer = await node.member("eve", "lobby")
        ann = await node.member("ann", "lobby")
        await observer.settle()
        token = node.token("ann", ttl_seconds=500)
        for _ in range(3):
            reply = await ann.ask(type="refresh", token=token)
            left_ms = (reply["expires_at"] - node.wall_clock()) * 1000
            assert reply["expires_in_ms"] == pytest.approx(left_ms, abs=100)
            await trio.sleep(100)
        assert await observer.settle() == []


@pytest.mark.parametrize("case", ["another user", "rubbish", "empty", "expired"])
async def test_a_token_that_is_no_better_ends_the_connection_with_4001(
    open_node: OpenNode, autojump_clock: MockClock, case: str
) -> None:
    async with open_node() as node:
        observer = await node.member("eve", "lobby")
        ann = await node.member("ann", "lobby")
        expired = node.token("ann", ttl_seconds=10)
        await trio.sleep(20)
        token = {"another user": node.token("bob"), "rubbish": "x.y.z", "empty": "", "expired": expired}[case]
        await ann.send(type="refresh", token=token, id=1)
        messages, code = await ann.read_to_end()
        assert (messages, code) == ([], CloseCode.UNAUTHORIZED)
        assert (await observer.receive_type("user_left"))["user_id"] == "ann"


async def test_rooms_that_the_new_token_does_not_allow_are_left(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        observer = await node.client("eve")
        ann = await node.member("ann", "home")
        for room in ("a", "b"):
            await observer.ask(type="join", room=room)
            await ann.ask(type="join", room=room)
        await ann.settle()
        await observer.settle()
        await ann.send(type="refresh", token=node.token("ann", rooms=["home", "b"]), id=1)
        assert [(m["type"], m.get("room")) for m in await ann.settle()] == [
            ("refreshed", None),
            ("left", "a"),
        ]
        assert [(m["type"], m["room"]) for m in await observer.settle()] == [("user_left", "a")]
        assert (await ann.ask(type="chat", text="x", room="a"))["code"] == "not_in_room"
        assert (await ann.ask(type="chat", text="x", room="b", id=1))["type"] == "ack"
        assert (await ann.ask(type="join", room="a"))["code"] == "forbidden"


async def test_a_connection_whose_home_is_not_allowed_any_more_gets_4003(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        observer = await node.client("eve")
        await observer.ask(type="join", room="home")
        await observer.ask(type="join", room="a")
        ann = await node.member("ann", "home")
        await ann.ask(type="join", room="a")
        await observer.settle()
        await ann.send(type="refresh", token=node.token("ann", rooms=["a"]))
        assert await ann.read_code() == CloseCode.FORBIDDEN
        left = [(m["type"], m["room"]) for m in await observer.settle()]
        assert sorted(left) == [("user_left", "a"), ("user_left", "home")]


async def test_a_home_that_was_left_is_no_home_to_be_thrown_out_of(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        ann = await node.member("ann", "home")
        await ann.ask(type="leave")
        reply = await ann.ask(type="refresh", token=node.token("ann", rooms=["other"]))
        assert reply["type"] == "refreshed"
        assert (await ann.ask(type="join", room="other"))["type"] == "joined"
