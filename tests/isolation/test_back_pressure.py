"""Slowness stays local: a full room holds up its senders, a slow reader is closed, and others go on."""

import json
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from broker.engine.memory import MemoryEngine
from broker.errors import CloseCode
from broker.sessions.backlog import RELIEFS
from broker.testing.line import Line
from broker.transport.byte_stream import MemoryByteStream
from tests.support.documents import validator
from tests.support.engines import LongWayEngine
from tests.support.node import Node, OpenNode
from tests.support.peers import RawPeer, client_frame, text_of


@attrs.define
class Dam:
    """Makes an engine that holds the room `dam` up until it is opened."""

    opened: trio.Event = attrs.Factory(trio.Event)

    def make(self, clock: Any) -> MemoryEngine:
        dam = self

        class DammedEngine(LongWayEngine):
            async def append(self, room: str, *args: Any) -> Any:
                if room == "dam":
                    await dam.opened.wait()
                return await super().append(room, *args)

        return DammedEngine(wall_clock=clock, idempotency_seconds=300)


def unread_bytes(line: Line) -> int:
    return len(line.server_end.receive_stream._incoming._data)


async def serve(node: Node, target: str) -> tuple[RawPeer, Line]:
    line = node.connect()
    peer = RawPeer(line.client_end)
    await peer.shake_hands(target)
    return peer, line


async def test_a_full_room_holds_its_sender_without_giving_it_up(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    dam = Dam()
    limits = {"mailbox_messages": 2, "messages_burst": 10_000}
    async with open_node(engine=dam.make, limits=limits) as node:
        others = await node.member("eve", "lobby")
        peer, line = await serve(node, node.target("dam", token=node.token("ann")))
        assert (await peer.read_message())["type"] == "joined"
        for i in range(2000):
            await peer.send(text_of(type="chat", text=str(i)))
        await wait_all_tasks_blocked()
        unread = unread_bytes(line)
        assert unread > 50_000, "its messages stay where they are"
        # For as long as it takes; it answers no pings, as none could be read.
        for _ in range(10):
            await trio.sleep(60)
            assert (await others.ask(type="ping"))["type"] == "pong"
        assert unread_bytes(line) == unread
        assert len(node.connections) == 2
        dam.opened.set()
        heard = []
        while len(heard) < 2000:
            message = await peer.read_message()
            if message["type"] == "chat":
                heard.append(int(message["text"]))
        assert heard == list(range(2000))
        # Now that it can be heard again, it must answer.
        started = trio.current_time()
        assert await peer.read_code() == CloseCode.NO_PONG
        assert 45 <= trio.current_time() - started <= 48
        assert node.log_lines() == []


async def test_others_of_the_full_room_wait_their_turn(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    dam = Dam()
    async with open_node(engine=dam.make, limits={"mailbox_messages": 2}) as node:
        ann, bob = await node.member("ann", "dam"), await node.member("bob", "dam")
        cyd = await node.client("cyd")
        for i in range(10):
            await ann.send(type="chat", text=str(i), id=i)
            await bob.send(type="chat", text=str(i), id=i)
        await cyd.send(type="join", room="dam")
        await wait_all_tasks_blocked()
        (holding,) = [c for c in node.connections if c.user_id == "cyd"]
        assert holding._session.is_waiting_for_room  # type: ignore[attr-defined]
        # A session that waits can be ended, and leaves behind what it had sent before.
        node.connections.disconnect_user("bob", CloseCode.REMOVED, "removed")
        assert await bob.read_code() == CloseCode.REMOVED
        await trio.sleep(100)
        assert len(node.connections) == 2
        dam.opened.set()
        acks = [m["id"] for m in await ann.settle() if m["type"] == "ack"]
        assert acks == list(range(10))
        assert (await cyd.receive())["type"] == "joined"
        assert (await ann.ask(type="presence"))["room_size"] == 2


async def test_a_dead_peer_is_given_up_also_while_its_room_is_full(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    dam = Dam()
    async with open_node(engine=dam.make, limits={"mailbox_messages": 1}) as node:
        peer, _ = await serve(node, node.target("dam", token=node.token("ann")))
        # Few enough to be read, so that a pong would be, too.
        for _ in range(4):
            await peer.send(text_of(type="chat", text="x"))
        started = trio.current_time()
        assert await peer.read_code() == CloseCode.NO_PONG
        assert 45 <= trio.current_time() - started <= 48
        dam.opened.set()
        await trio.sleep(10)
        assert node.is_empty()


async def test_a_peer_that_has_been_waiting_is_not_given_up_the_moment_it_is_read_again(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    dam = Dam()
    limits = {"mailbox_messages": 1, "messages_burst": 10_000}
    async with open_node(engine=dam.make, limits=limits) as node:
        peer, line = await serve(node, node.target("dam", token=node.token("ann")))
        await peer.wait_ping()
        # The ping stands open when the flood begins, and the pong lies behind it.
        for _ in range(1000):
            await peer.send(text_of(type="chat", text="x"))
        await peer.send(client_frame(10))
        await wait_all_tasks_blocked()
        assert unread_bytes(line)
        await trio.sleep(30)
        dam.opened.set()
        await trio.sleep(20)
        assert len(node.connections) == 1


async def test_messages_queued_while_a_sender_was_paused_do_not_count_against_its_rate(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    dam = Dam()
    limits = {"mailbox_messages": 2, "messages_per_second": 10.0, "messages_burst": 20, "refused_burst": 20}
    async with open_node(engine=dam.make, limits=limits) as node:
        peer, _ = await serve(node, node.target("dam", token=node.token("ann")))
        for i in range(500):
            await peer.send(text_of(type="chat", text=str(i)))
            await trio.sleep(0.11)
            if i == 300:
                dam.opened.set()
        heard = []
        while len(heard) < 500:
            message = await peer.read_message()
            assert message["type"] != "error"
            if message["type"] == "chat":
                heard.append(int(message["text"]))
        assert heard == list(range(500))


async def test_a_room_that_is_held_up_while_a_member_is_cut_off_finds_it_gone_and_goes_on(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    dam = Dam()
    async with open_node(engine=dam.make) as node:
        ann = await node.member("ann", "dam")
        ours, theirs = memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.port.serve_stream, MemoryByteStream(theirs, "10.0.0.1"))
            peer = RawPeer(ours)
            await peer.shake_hands(node.target("dam", token=node.token("bob")))
            assert (await ann.receive())["user_id"] == "bob"
            await ann.send(type="chat", text="on its way", id=1)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        dam.opened.set()
        assert [message["type"] for message in await ann.settle()] == ["chat", "ack", "user_left"]
        assert node.log_lines() == []


@pytest.mark.parametrize("policy", ["disconnect", "drop"])
async def test_a_peer_that_stops_reading(open_node: OpenNode, autojump_clock: MockClock, policy: str) -> None:
    websocket = {"outbox_bytes": 20_000, "slow_reader": policy}
    async with open_node(websocket=websocket, limits={"messages_burst": 10_000}) as node:
        ann = await node.member("ann", "lobby")
        peer, line = await serve(node, node.target("lobby", token=node.token("bob")))
        assert (await peer.read_message())["type"] == "joined"
        assert (await peer.read_message())["type"] == "user_joined"
        line.stop_reading()
        for i in range(200):
            assert (await ann.ask(type="chat", text="x" * 400, id=i))["offset"] == i + 1
        lost = node.rooms.statistics().deliveries_lost
        assert lost == 1 if policy == "disconnect" else 100 < lost < 200
        line.read_again()
        await check_what_it_saw(peer, policy, lost)
        assert node.log_lines() == []


async def test_a_peer_that_stops_reading_gets_the_newest_of_alike_events(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    rooms = [{"pattern": "board*", "slow_reader": "latest"}]
    async with open_node(rooms=rooms, limits={"messages_burst": 10_000}) as node:
        ann = await node.member("ann", "board")
        peer, line = await serve(node, node.target("board", token=node.token("bob")))
        assert (await peer.read_message())["type"] == "joined"
        assert (await peer.read_message())["type"] == "user_joined"
        line.stop_reading()
        for i in range(300):
            symbol = "ABC"[i % 3]
            await ann.ask(type="publish", event="price", data=i, tags={"symbol": symbol}, id=i)
        # So that it asks for nothing: a join comes behind what was held back.
        await peer.send(text_of(type="join", room="board", id="again"))
        await wait_all_tasks_blocked()
        line.read_again()
        position, newest, gaps = 0, {}, 0
        while (message := await peer.read_message())["type"] != "joined":
            validator("ServerMessage", is_closed=True).validate(message)
            first = message["from"] if message["type"] == "gap" else message["offset"]
            assert first == position + 1
            position = message["to"] if message["type"] == "gap" else first
            if message["type"] == "gap":
                gaps += message["to"] - first + 1
            else:
                newest[message["tags"]["symbol"]] = message["data"]
        assert (newest, position) == ({"A": 297, "B": 298, "C": 299}, 300)
        assert message["offset"] == 300
        assert gaps == node.rooms.statistics().deliveries_lost > 250
        await ann.ask(type="publish", event="price", data=300, id=300)
        assert (await peer.read_message())["offset"] == 301
        assert node.log_lines() == []


async def test_past_the_limit_of_all_outboxes_the_slowest_reader_goes_first(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    limits = {"messages_burst": 10_000, "outbox_total_bytes": 100_000}
    async with open_node(limits=limits) as node:
        ann = await node.member("ann", "lobby")
        lines = []
        for name in ("bob", "cat"):
            peer, line = await serve(node, node.target("lobby", token=node.token(name)))
            assert (await peer.read_message())["type"] == "joined"
            lines.append(line)
            if name == "bob":
                line.stop_reading()
                for i in range(100):
                    await ann.ask(type="chat", text="x" * 400, id=i)
        lines[1].stop_reading()
        assert node.rooms.statistics().members == 3
        for i in range(100, 160):
            await ann.ask(type="chat", text="x" * 400, id=i)
        await wait_all_tasks_blocked()
        assert [node.connections.backlog.relieved[relief] for relief in RELIEFS] == [1, 0]
        assert {user for user, _ in (await node.rooms.inspect("lobby")).users} == {"ann", "cat"}
        assert node.connections.backlog.total_bytes < 100_000
        assert node.log_lines() == []


async def check_what_it_saw(peer: RawPeer, policy: str, lost: int) -> None:
    offsets: list[int] = []
    missed = 0
    if policy == "disconnect":
        while True:
            event = await peer.read_event()
            assert event is not None
            if hasattr(event, "code"):
                assert event.code == CloseCode.TOO_SLOW
                return
            offsets.append(json.loads(event.data)["offset"])
            assert offsets == list(range(1, len(offsets) + 1))
    while len(offsets) + missed < 200:
        message = await peer.read_message()
        validator("ServerMessage", is_closed=True).validate(message)
        if message["type"] == "gap":
            assert message["from"] == len(offsets) + missed + 1
            missed += message["to"] - message["from"] + 1
        else:
            offsets.append(message["offset"])
            assert message["offset"] == len(offsets) + missed
    assert missed == lost
