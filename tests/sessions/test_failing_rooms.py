"""A session with a failing room."""

from typing import Any

import attrs
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.engine.memory import MemoryEngine
from broker.errors import CloseCode
from tests.support.engines import LongWayEngine
from tests.support.node import OpenNode


@attrs.define
class Fault:
    """Makes an engine with a fault that nobody expects."""

    is_on: bool = False
    fails: trio.Event = attrs.Factory(trio.Event)

    def make(self, clock: Any) -> MemoryEngine:
        fault = self

        class FaultyEngine(LongWayEngine):
            async def append(self, *args: Any) -> Any:
                if fault.is_on:
                    await fault.fails.wait()
                    raise ZeroDivisionError("a fault of the engine")
                return await super().append(*args)

            async def read(self, *args: Any, **kwargs: Any) -> Any:
                if fault.is_on:
                    raise ZeroDivisionError("a fault of the engine")
                return await super().read(*args, **kwargs)

        return FaultyEngine(wall_clock=clock, idempotency_seconds=300)


async def test_a_join_that_fails_its_room_may_be_repeated(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    fault = Fault()
    async with open_node(engine=fault.make) as node:
        observer = await node.member("eve", "lobby")
        position = (await observer.ask(type="join", room="lobby"))["epoch"]
        ann = await node.client("ann")
        fault.is_on = True
        since = {"offset": 0, "epoch": position}
        error = await ann.ask(type="join", room="lobby", since=since)
        assert (error["code"], error["message"]) == ("unavailable", "the room failed; try again")
        assert (await ann.ask(type="presence", room="lobby"))["code"] == "not_in_room"
        fault.is_on = False
        await trio.sleep(1)
        assert (await ann.ask(type="join", room="lobby", since=since))["room_size"] == 2
        told = [message["type"] for message in await observer.settle() if message.get("user_id") == "ann"]
        assert told == ["user_joined"]


async def test_a_history_that_fails_its_room_may_be_asked_for_again(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    fault = Fault()
    async with open_node(engine=fault.make) as node:
        ann = await node.member("ann", "lobby")
        fault.is_on = True
        error = await ann.ask(type="history")
        assert (error["code"], error["message"]) == ("unavailable", "the room failed; try again")
        fault.is_on = False
        await trio.sleep(1)
        assert (await ann.ask(type="history"))["messages"] == []


async def test_a_room_that_is_given_up_takes_its_members_along_and_no_others(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    fault = Fault()
    async with open_node(engine=fault.make, limits={"mailbox_messages": 1}) as node:
        ann, bob, cyd = [await node.member(user, "lobby") for user in ("ann", "bob", "cyd")]
        eve = await node.member("eve", "other")
        fault.is_on = True
        for _ in range(10):
            await ann.send(type="chat", text="x")
            await bob.send(type="chat", text="x")
        await wait_all_tasks_blocked()
        # Some wait for space in its inbox when it fails for the last time.
        fault.fails.set()
        for client in (ann, bob, cyd):
            assert await client.read_code() == CloseCode.INTERNAL_ERROR
        fault.is_on = False
        assert (await eve.ask(type="chat", text="unmoved"))["type"] == "ack"
        await trio.sleep(2)
        assert node.rooms.statistics().members == len(node.connections) == 1
        assert (await (await node.client("ann", "lobby")).receive())["room_size"] == 1


async def test_a_request_to_a_room_that_is_gone_ends_in_1011(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        ann = await node.member("ann", "lobby")
        ref = node.rooms._registry.peek("lobby")
        assert ref is not None
        ref.stop_nowait()
        await ann.send(type="presence")
        assert await ann.read_code() == CloseCode.INTERNAL_ERROR
        await trio.sleep(2)
        assert node.is_empty()
        # It is the room whose end is worth a line, not everybody who was in it.
        assert node.log_lines() == []
