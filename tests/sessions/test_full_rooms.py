"""Rooms that may have so many members (`max_members`)."""

import random
from typing import Any

import pytest
from trio.testing import MockClock

from broker.client import RefusedError
from broker.errors import CloseCode
from tests.client.test_client import open_world
from tests.support.node import OpenNode

FULL = "room_full"
OF_TWO = {"room": {"max_members": 2}}


async def test_a_room_is_full_until_a_member_leaves(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node(**OF_TWO) as node:
        ann, bob, cas = [await node.client(user) for user in ("ann", "bob", "cas")]
        for member in (ann, bob):
            assert (await member.ask(type="join", room="den"))["type"] == "joined"
        refused = await cas.ask(type="join", room="den", id="7")
        assert (refused["code"], refused["id"], "retry_after_ms" in refused) == (FULL, "7", False)
        assert (await cas.ask(type="chat", room="den", text="x"))["code"] == "not_in_room"
        # A member joins again, and others have rooms of their own.
        assert (await ann.ask(type="join", room="den"))["type"] == "joined"
        assert (await cas.ask(type="join", room="attic"))["type"] == "joined"
        assert await (await node.client("cas", "den")).read_code() == CloseCode.TOO_MANY
        assert await (await node.client("cas", auto_join=["den"])).read_code() == CloseCode.TOO_MANY
        assert dict(node.services.refusals.counts) == {"room_members": 3, "not_in_room": 1}
        await bob.ask(type="leave", room="den")
        assert (await cas.ask(type="join", room="den"))["room_size"] == 2
        await ann.connection.aclose()
        assert (await bob.ask(type="join", room="den"))["room_size"] == 2
    assert node.is_empty()


async def test_the_rule_of_a_room_comes_before_the_general_setting(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    rules = [
        {"pattern": "pair.*", "max_members": 2},
        {"pattern": "hall.*", "max_members": 5},
        {"pattern": "log.*", "history_messages": 0},
    ]
    async with open_node(room={"max_members": 3}, rooms=rules) as node:
        clients = [await node.client(f"user{number}") for number in range(7)]
        for room, most in {"pair.1": 2, "hall.1": 5, "log.1": 3, "den": 3}.items():
            answers = [await client.ask(type="join", room=room) for client in clients]
            assert [answer.get("code") for answer in answers] == [None] * most + [FULL] * (7 - most)


async def test_whoever_is_hidden_takes_no_place_and_needs_none(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node(**OF_TWO) as node:
        watchers = [await node.client("eve", is_hidden=True) for _ in range(3)]
        members = [await node.client("ann"), await node.client("ann")]
        for client in (*watchers[:2], *members, watchers[2]):
            assert (await client.ask(type="join", room="den"))["type"] == "joined"
        assert (await (await node.client("ann")).ask(type="join", room="den"))["code"] == FULL


@pytest.mark.parametrize("seed", range(5))
async def test_however_members_come_and_go_exactly_those_without_a_place_are_refused(
    open_node: OpenNode, autojump_clock: MockClock, seed: int
) -> None:
    chance = random.Random(seed)
    async with open_node(room={"max_members": 3}, limits={"messages_burst": 1000}) as node:
        clients = [await node.client(f"user{number % 4}") for number in range(6)]
        inside: set[int] = set()
        for _ in range(60):
            number = chance.randrange(6)
            if chance.random() < 0.3 and number in inside:
                assert (await clients[number].ask(type="leave", room="den"))["type"] == "left"
                inside.discard(number)
                continue
            answer: dict[str, Any] = await clients[number].ask(type="join", room="den")
            if number in inside or len(inside) < 3:
                inside.add(number)
                assert (answer["type"], answer["room_size"]) == ("joined", len(inside))
            else:
                assert answer["code"] == FULL


async def test_the_client_in_python_is_told_and_goes_on(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_world(open_node, rooms=[{"pattern": "den", "max_members": 1}]) as world:
        bob = await world.node.member("bob", "den")
        async with world.client() as client, client.join("lobby") as lobby:
            with pytest.raises(RefusedError) as refused:
                async with client.join("den"):
                    pass
            assert refused.value.code == FULL
            assert (await lobby.chat("still here")).offset == 1
            await bob.ask(type="leave", room="den")
            async with client.join("den") as den:
                assert (await den.chat("at last")).offset == 1
