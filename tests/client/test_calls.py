"""Calls of methods of a room by the Python client, whose answers come from a hook of the node."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import msgspec
import pytest
import trio
from trio.testing import MockClock

from broker.client import ClientError, ConnectionLostError, RefusedError, RemovedError, connect
from broker.hooks import Hook
from broker.model import Draft
from broker.protocol.content import notifier_content
from broker.room_actors import Member, RoomActor, call
from broker.testing import RunningBroker, running_broker
from tests.client.test_client import World, next_of, open_world
from tests.support.patience import PATIENCE_SECONDS

Answer = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class Order(msgspec.Struct):
    number: int
    status: str


@attrs.define
class Shop:
    """Answers calls with what `answer` returns, and notes their ids."""

    answer: Answer
    ids: list[object] = attrs.Factory(list)

    async def decide(self, ask: Mapping[str, Any]) -> Mapping[str, Any]:
        self.ids.append(ask["call"]["id"])
        return await self.answer(ask["call"])


async def echo(call: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"allow": True, "data": call["data"]}


@asynccontextmanager
async def open_shop(open_node: Any) -> AsyncIterator[tuple[World, Shop]]:
    shop = Shop(echo)
    hook = Hook(shop.decide, on=["call"], rooms=["shop"], timeout_seconds=10)
    async with open_world(open_node, hooks=[hook]) as world:
        yield world, shop


async def test_a_call_returns_the_answer_of_the_application(
    open_node: Any, autojump_clock: MockClock
) -> None:
    async with open_shop(open_node) as (world, shop), world.client() as client, client.join("shop") as room:
        for data in ({"order": [5, None]}, 0, False, "", None):
            assert await room.call("echo", data) == data
        assert await room.call("echo") is None
        assert len(set(shop.ids)) == 6
        await room.call("echo", id="mine")
        assert shop.ids[-1] == "mine"
        order = await room.call("echo", {"number": 5, "status": "paid"}, result_type=Order)
        assert order == Order(5, "paid")
        assert await room.call("echo", {"1": 2}, result_type=dict[int, int]) == {1: 2}
        with pytest.raises(ClientError, match=r"^the answer to echo: .*status"):
            await room.call("echo", {"number": 5}, result_type=Order)


class Counter(RoomActor[None], pattern="counter"):
    @call
    async def add(self, sender: Member | None, points: int = 5) -> int:
        return points


def test_a_call_without_data_leaves_the_default_to_the_code_of_the_room() -> None:
    async def main(greenroom: RunningBroker) -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            async with (
                connect(greenroom.url, token=greenroom.token("ann")) as client,
                client.join("counter") as room,
            ):
                assert await room.call("add") == 5
                assert await room.call("add", 7) == 7
                with pytest.raises(RefusedError, match="data: Expected `int`, got `null`"):
                    await room.call("add", None)

    with running_broker(rooms=[Counter]) as greenroom:
        trio.run(main, greenroom)


async def test_a_refused_call_raises_with_code_and_reason(open_node: Any, autojump_clock: MockClock) -> None:
    async with open_shop(open_node) as (world, shop), world.client() as client, client.join("shop") as room:

        async def refuse(_call: Mapping[str, Any]) -> Mapping[str, Any]:
            return {"allow": False, "reason": "no such order"}

        shop.answer = refuse
        with pytest.raises(RefusedError) as caught:
            await room.call("status", 6)
        assert (caught.value.code, caught.value.message) == ("forbidden", "no such order")
        with pytest.raises(RefusedError, match="method"):
            await room.call("")
        async with client.join("lobby") as other:
            with pytest.raises(RefusedError, match="nothing answers calls in this room"):
                await other.call("status")


async def test_a_call_is_repeated_with_its_id_after_a_lost_connection_and_an_outage(
    open_node: Any, autojump_clock: MockClock
) -> None:
    async with open_shop(open_node) as (world, shop), world.client() as client, client.join("shop") as room:

        async def fail_twice(_call: Mapping[str, Any]) -> Mapping[str, Any]:
            if len(shop.ids) == 1:
                await world.cut()
            if len(shop.ids) == 2:
                raise ValueError
            return {"allow": True, "data": len(shop.ids)}

        shop.answer = fail_twice
        assert await room.call("count") == 3
        assert len(set(shop.ids)) == 1
        assert len(world.lines) == 2


async def test_a_call_that_the_application_may_have_forgotten_is_not_repeated(
    open_node: Any, autojump_clock: MockClock
) -> None:
    async with open_shop(open_node) as (world, shop), world.client() as client, client.join("shop") as room:

        async def vanish(_call: Mapping[str, Any]) -> Mapping[str, Any]:
            world.is_reachable = False
            await world.cut()
            return {"allow": True}

        shop.answer = vanish
        async with trio.open_nursery() as nursery:

            async def return_later() -> None:
                await trio.sleep(300)
                world.is_reachable = True

            nursery.start_soon(return_later)
            with pytest.raises(ConnectionLostError):
                await room.call("count")
        assert len(shop.ids) == 1


async def test_a_services_message_of_the_type_result_is_an_event_and_answers_no_call(
    open_node: Any, autojump_clock: MockClock
) -> None:
    async with open_shop(open_node) as (world, shop), world.client() as client, client.join("shop") as room:

        async def answer(call: Mapping[str, Any]) -> Mapping[str, Any]:
            forged = {"type": "result", "id": call["id"], "data": "of a service"}
            content, header = notifier_content(msgspec.json.encode(forged))
            await world.node.rooms.publish("shop", Draft(content, header=header))
            heard = await next_of(room, "result")
            assert (heard["room"], heard["id"], heard["data"]) == ("shop", call["id"], "of a service")
            return {"allow": True, "data": "of the application"}

        shop.answer = answer
        assert await room.call("status") == "of the application"


async def test_a_call_in_a_room_that_was_left_fails(open_node: Any, autojump_clock: MockClock) -> None:
    async with open_shop(open_node) as (world, _), world.client() as client:
        async with client.join("shop") as room:
            pass
        with pytest.raises(RemovedError):
            await room.call("status")
