"""The rooms of a token's claim auto_join, over a whole connection in memory."""

from typing import Any

import pytest
from trio.testing import MockClock

from broker.auth.claims import parse_claims
from broker.errors import CloseCode, Disconnect
from tests.support.node import OpenNode


async def test_a_connection_is_in_the_rooms_of_its_token_from_its_start(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node(limits={"rooms_per_connection": 3}) as node:
        bob = await node.member("bob", "b")
        for room, expected in ((None, ["a", "b"]), ("b", ["b", "a"]), ("c", ["c", "a", "b"])):
            ann = await node.client("ann", room, auto_join=["a", "b", "a"])
            told = [message["room"] for message in await ann.settle() if message["type"] == "joined"]
            assert told == expected
            assert (await bob.receive_type("user_joined"))["user_id"] == "ann"
            assert (await ann.ask(type="chat", room="b", text="x", id=room or "none"))["type"] in {
                "chat",
                "ack",
            }
            await ann.ask(type="leave", room="a", id="left")
            # Neither a new token nor another join brings it back.
            token = node.token("ann", auto_join=["a"])
            await ann.send(type="refresh", token=token)
            assert [message["type"] for message in await ann.settle() if message["type"] == "joined"] == []
            await ann.aclose()
        await bob.settle()


@pytest.mark.parametrize(
    "claims",
    [
        {"auto_join": ["a", "other"], "rooms": ["a"]},
        {"auto_join": ["a"], "can": ["chat"]},
        {"auto_join": ["user_bob"]},
        {"auto_join": ["1", "2", "3"]},
    ],
)
async def test_the_claims_and_limits_of_joins_bound_it(
    open_node: OpenNode, autojump_clock: MockClock, claims: dict[str, Any]
) -> None:
    async with open_node(limits={"rooms_per_connection": 2}) as node:
        ann = await node.client("ann", **claims)
        assert await ann.read_code() == CloseCode.FORBIDDEN
        assert not node.rooms.statistics().members


@pytest.mark.parametrize("value", ["a", None, [1], [""], ["a/b"], ["x" * 129], ["a"] * 257, {"a": 1}, True])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(Disconnect) as refusal:
        parse_claims({"sub": "ann", "auto_join": value})
    assert (refusal.value.code, "auto_join" in refusal.value.reason) == (CloseCode.UNAUTHORIZED, True)
