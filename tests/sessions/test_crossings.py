"""Crossing messages: a removal by the application, and a join of the removed user."""

from collections.abc import Callable
from typing import Any

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.engine.base import Engine
from tests.support.engines import LongWayEngine
from tests.support.node import OpenNode


class Dam:
    """Makes engines whose appends wait until it is opened, and their rooms with them."""

    def __init__(self) -> None:
        self.opened = trio.Event()
        self.opened.set()

    def make(self, clock: Callable[[], float]) -> Engine:
        dam = self

        class DammedEngine(LongWayEngine):
            async def append(self, *args: Any) -> Any:
                await dam.opened.wait()
                return await super().append(*args)

        return DammedEngine(wall_clock=clock, idempotency_seconds=300)


async def test_a_join_behind_a_removal_lasts_until_the_connection_ends(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    dam = Dam()
    async with open_node(engine=dam.make) as node:
        eve = await node.member("eve", "den")
        ann = await node.client("ann")
        await ann.ask(type="join", room="den")
        await eve.settle()
        dam.opened = trio.Event()
        await eve.send(type="chat", text="the room is busy with this")
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.rooms.remove, "den", "ann")
            await wait_all_tasks_blocked()
            await ann.send(type="leave", room="den")
            await ann.send(type="join", room="den", id="again")
            await wait_all_tasks_blocked()
            dam.opened.set()
        joined = [m for m in await ann.settle() if m["type"] == "joined"]
        assert [m["id"] for m in joined] == ["again"]
        assert (await node.rooms.inspect("den")).users == (("eve", 1), ("ann", 1))
        await ann.send(type="chat", room="den", text="still here")
        assert "still here" in [m.get("text") for m in await eve.settle()]
        await ann.connection.aclose()
        left = [m for m in await eve.settle() if m["type"] == "user_left"]
        assert [m["user_id"] for m in left] == ["ann"]
        assert (await node.rooms.inspect("den")).users == (("eve", 1),)


async def test_one_removed_behind_its_own_join_is_out(open_node: OpenNode, autojump_clock: MockClock) -> None:
    dam = Dam()
    async with open_node(engine=dam.make) as node:
        eve = await node.member("eve", "den")
        ann = await node.client("ann")
        await ann.settle()
        dam.opened = trio.Event()
        await eve.send(type="chat", text="the room is busy with this")
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            await ann.send(type="join", room="den")
            await wait_all_tasks_blocked()
            nursery.start_soon(node.rooms.remove, "den", "ann")
            await wait_all_tasks_blocked()
            dam.opened.set()
        kinds = [m["type"] for m in await ann.settle()]
        assert (kinds[0], kinds[-1]) == ("joined", "left")
        assert (await ann.ask(type="chat", room="den", text="?"))["code"] == "not_in_room"
        assert (await node.rooms.inspect("den")).users == (("eve", 1),)


async def test_a_message_refused_for_its_rate_is_known_by_its_id(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node(limits={"messages_per_second": 1.0, "messages_burst": 1}) as node:
        ann = await node.client("ann")
        await ann.send(type="ping", id=1)
        await ann.send(type="ping", id=2)
        await ann.connection.send_message("rubbish")
        pong, refused, nameless = await ann.settle()
        assert (pong["type"], pong["id"]) == ("pong", 1)
        assert (refused["code"], refused["id"]) == ("rate_limited", 2)
        assert nameless["code"] == "rate_limited"
        assert "id" not in nameless
