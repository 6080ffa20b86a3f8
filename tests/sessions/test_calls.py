"""Calls of methods of rooms, which the application answers, over whole connections in memory."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from broker.hooks import Hook
from tests.support.node import OpenNode

Answer = Callable[[Mapping[str, Any]], Any]


@attrs.define
class Shop:
    """Answers a call with what `answer` returns for it, after `takes` seconds; allows all else."""

    answer: Answer
    takes: float = 0.0
    asked: list[Mapping[str, Any]] = attrs.Factory(list)

    async def decide(self, ask: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append(ask)
        await trio.sleep(self.takes)
        if ask["type"] != "call":
            return {"allow": True}
        answer: Mapping[str, Any] = self.answer(ask["call"])
        return answer

    def hook(self, **options: Any) -> Hook:
        return Hook(self.decide, ["call", "publish"], **{"rooms": ["shop*"], **options})


def echo(call: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"allow": True, "data": call}


async def test_a_call_is_answered_by_the_application(open_node: OpenNode, autojump_clock: MockClock) -> None:
    shop = Shop(echo)
    async with open_node(hooks=[shop.hook()]) as node:
        bob, ann = await node.member("bob", "shop"), await node.member("ann", "shop", info={"name": "Ann"})
        await bob.settle()
        for request, call in (
            ({"data": {"order": 5}, "id": 7}, {"data": {"order": 5}, "id": 7}),
            ({"data": None, "id": "x"}, {"data": None, "id": "x"}),
            ({"id": "7"}, {"data": None, "id": "7"}),
        ):
            result = await ann.ask(type="call", method="status", **request)
            assert result == {"type": "result", "id": request["id"], "data": {"method": "status", **call}}
        ask = shop.asked[0]
        assert (ask["type"], ask["user_id"], ask["room"]) == ("call", "ann", "shop")
        assert ask["call"] == {"method": "status", "data": {"order": 5}, "id": 7}
        assert ask["claims"]["info"] == {"name": "Ann"}
        assert "message" not in ask
        await ann.send(type="call", method="status")
        assert await ann.receive() == {"type": "result", "data": {"method": "status", "data": None}}
        shop.answer = lambda _: {"allow": True}
        assert await ann.ask(type="call", method="m", id=1) == {"type": "result", "id": 1, "data": None}
        assert await bob.settle() == [], "the others hear nothing of it"


async def test_a_call_is_refused_as_other_requests_are(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    shop = Shop(lambda _: {"allow": False, "reason": "no such order"})
    async with open_node(hooks=[shop.hook()]) as node:
        ann = await node.member("ann", "shop")
        refused = await ann.ask(type="call", method="m", id=3)
        assert refused == {"type": "error", "id": 3, "code": "forbidden", "message": "no such order"}
        for code in ("rate_limited", "unavailable"):
            shop.answer = lambda _, code=code: {"allow": False, "code": code}  # type: ignore[misc]
            refused = await ann.ask(type="call", method="m")
            assert (refused["code"], refused["retry_after_ms"]) == (code, 1000)
        # Those that are refused anyway are not asked about.
        count = len(shop.asked)
        assert (await ann.ask(type="call", method="m", room="shop 2"))["code"] == "not_in_room"
        assert (await ann.ask(type="call", method="m", data=2**64))["code"] == "invalid_message"
        assert (await ann.ask(type="call", method=""))["code"] == "invalid_message"
        mute = await node.client("mute", "shop", can=["join", "chat", "publish"])
        refused = await mute.ask(type="call", method="m")
        assert (refused["code"], refused["message"]) == ("forbidden", "the token does not allow call")
        assert len(shop.asked) == count
        able = await node.client("able", "shop", can=["join", "call"])
        assert (await able.ask(type="call", method="m"))["code"] == "unavailable"
        assert len(shop.asked) == count + 1


@pytest.mark.parametrize("has_hooks", [False, True])
async def test_where_no_hook_is_for_calls_nothing_answers(
    open_node: OpenNode, autojump_clock: MockClock, has_hooks: bool
) -> None:
    shop = Shop(echo)
    async with open_node(hooks=[shop.hook()] if has_hooks else []) as node:
        ann = await node.member("ann", "lobby")
        refused = await ann.ask(type="call", method="m", id=1)
        assert refused == {
            "type": "error",
            "id": 1,
            "code": "forbidden",
            "message": "nothing answers calls in this room",
        }
        assert (await ann.ask(type="call", method="m", room="x"))["code"] == "not_in_room"
        mute = await node.client("mute", "lobby", can=["join"])
        assert "does not allow call" in (await mute.ask(type="call", method="m"))["message"]
        assert shop.asked == []


async def test_an_answer_that_clients_cannot_read_or_that_is_too_large_is_none(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    deepest: list[Any] = []
    for _ in range(62):
        deepest = [deepest]
    answers: list[Any] = [deepest, [deepest], 2**63, "\ud800", "x" * 20_000, "x" * 1_000_000]
    shop = Shop(lambda call: {"allow": True, "data": answers[call["data"]]})
    async with open_node(hooks=[shop.hook(when_away="allow")]) as node:
        ann = await node.member("ann", "shop")
        kinds = [
            (await ann.ask(type="call", method="m", data=index))["type"] for index in range(len(answers))
        ]
        assert kinds == ["result", "error", "error", "error", "result", "error"]


async def test_a_call_waits_in_its_room_and_nowhere_else(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    shop = Shop(echo, takes=1.0)
    async with open_node(hooks=[shop.hook()]) as node:
        ann = await node.member("ann", "shop")
        assert (await ann.ask(type="join", room="lobby"))["type"] == "joined"
        began = trio.current_time()
        await ann.send(type="chat", text="before", id=1)
        await ann.send(type="call", method="m", id=2)
        await ann.send(type="presence", id=3)
        await ann.send(type="call", method="m", id=4)
        await ann.send(type="ping", id=5)
        await ann.send(type="chat", room="lobby", text="x", id=6)
        await ann.send(type="call", room="lobby", method="m", id=7)
        answers = []
        while len(answers) < 7:
            message = await ann.receive()
            if "id" in message:
                answers.append((message["id"], message["type"], round(trio.current_time() - began)))
        assert answers == [
            (5, "pong", 0),
            (6, "ack", 0),
            (7, "error", 0),
            (1, "ack", 1),
            (2, "result", 2),
            (3, "presence", 2),
            (4, "result", 3),
        ]


async def test_a_call_that_waits_is_dropped_with_its_connection(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    shop = Shop(echo, takes=60.0)
    async with open_node(hooks=[shop.hook(timeout_seconds=90.0)]) as node:
        ann = await node.member("ann", "shop")
        await ann.send(type="call", method="m", id=1)
        await ann.send(type="call", method="m", id=2)
        await ann.settle()
        node.connections.disconnect_user("ann", 4004, "gone")
        messages, code = await ann.read_to_end()
        assert ([message for message in messages if "id" in message], code) == ([], 4004)
        await trio.sleep(200)
        assert (len(shop.asked), node.is_empty()) == (1, True)


async def test_many_large_answers_at_once_are_sent_as_they_are_read(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    shop = Shop(lambda call: {"allow": True, "data": [call["id"], "x" * 50_000]}, takes=1.0)
    hook = shop.hook(rooms=["*"], concurrency=100)
    async with open_node(hooks=[hook], websocket={"outbox_bytes": 65_536}) as node:
        rooms = [f"room {number}" for number in range(8)]
        ann = await node.client("ann", auto_join=rooms)
        await ann.settle()
        for index in range(24):
            await ann.send(type="call", room=rooms[index % 8], method="m", id=index)
        results = [await ann.receive_type("result") for _ in range(24)]
        assert sorted(result["id"] for result in results) == list(range(24))
        assert all(result["data"][0] == result["id"] for result in results)
