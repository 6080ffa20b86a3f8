"""Events of one node reach all nodes in one order, under any failure of the links between them."""

from pathlib import Path

import trio

from broker.errors import EngineUnavailableError
from broker.model import Draft, Position
from broker.notices import Acknowledged, Failed, Joined, RoomEvent
from tests.cluster.nodes import Guest, open_node
from tests.engine.redis.opened import wait_ready, wait_trouble
from tests.support.redis import RedisServer, run_redis
from tests.support.redis_proxy import open_proxy


async def test_events_of_one_node_reach_all_nodes_in_one_order(redis: RedisServer) -> None:
    async with open_node(redis.url) as east, open_node(redis.url) as west:
        ann, bob = await east.enter("ann"), await west.enter("bob")
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon((east, west)[number % 2].say, f"{number}")
        for guest in (ann, bob):
            await guest.wait(lambda guest=guest: len(guest.texts()) >= 100)
        assert ann.heard_of(RoomEvent) == bob.heard_of(RoomEvent)
        assert sorted(ann.texts(), key=int) == [str(number) for number in range(100)]


async def test_a_sender_is_acknowledged_once_and_hears_itself_once(redis: RedisServer) -> None:
    async with open_node(redis.url) as east, open_node(redis.url) as west:
        ann, bob = await east.enter("ann"), await west.enter("bob")
        first = await east.chat(ann, "hello", 1)
        assert isinstance(first, Acknowledged)
        assert first.position is not None
        again = await east.chat(ann, "hello", 1)
        assert isinstance(again, Acknowledged)
        assert again.position == first.position
        await west.say("bye")
        for guest in (ann, bob):
            await guest.wait_texts("hello", "bye")


async def test_ephemeral_events_take_their_turn_on_every_node(redis: RedisServer) -> None:
    async with open_node(redis.url) as east, open_node(redis.url) as west:
        bob = await west.enter("bob")
        await east.say("1")
        await east.rooms.publish("den", Draft(b"typing", ephemeral=True))
        await east.say("2")
        await bob.wait_texts("1", "typing", "2")
        assert [said.event.offset for said in bob.heard_of(RoomEvent)] == [1, None, 2]


async def test_a_joining_member_misses_no_event(redis: RedisServer) -> None:
    async with open_node(redis.url) as east, open_node(redis.url) as west:
        guests: list[Guest] = []
        is_done = False

        async def talk() -> None:
            number = 0
            while not is_done:
                number += 1
                await east.say(str(number))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            for number in range(20):
                # The first into a room subscribes, and the last out lets go.
                guest = await west.enter(f"guest {number}")
                await guest.wait(lambda guest=guest: len(guest.texts()) > 5)
                [joined] = guest.heard_of(Joined)
                assert guest.texts()[0] == str(joined.position.offset + 1)
                await west.leave(guest)
                guests.append(guest)
            is_done = True
        assert all(len(guest.texts()) > 5 for guest in guests)


async def test_events_published_during_the_first_join_are_not_lost(redis: RedisServer) -> None:
    async with open_proxy(redis.port) as proxy, open_node(proxy.url) as east, open_node(redis.url) as west:
        ann = Guest("ann")
        async with trio.open_nursery() as nursery:
            proxy.gate = trio.Event()
            nursery.start_soon(east.join, ann)
            # Time enough for whatever does not wait at the gate.
            for text in ("1", "2", "3", "4", "5"):
                await west.say(text)
            proxy.gate.set()
        assert ann.at is not None
        assert ann.at.offset == 5


async def test_a_client_that_changes_nodes_misses_nothing(redis: RedisServer) -> None:
    async with open_node(redis.url) as east, open_node(redis.url) as west:
        ann = await east.enter("ann")
        await west.say("1")
        await ann.wait_texts("1")
        since = ann.at
        await east.leave(ann)
        await east.say("2", "3")
        joined = await west.join(Guest("ann"), since=since)
        assert joined.is_recovered
        assert [event.content for event in joined.events] == [b"2", b"3"]


async def test_rooms_where_nobody_is_do_not_listen(redis: RedisServer) -> None:
    async def listeners() -> int:
        return int(redis.ask("PUBSUB", "NUMSUB", "cluster:0:room:den")[1])

    async with open_node(redis.url) as east, open_node(redis.url) as west:
        await east.say("1")
        assert await listeners() == 0
        ann, bob = await east.enter("ann"), await west.enter("bob")
        assert await listeners() == 2
        await east.leave(ann)
        await east.rooms.inspect("den")
        await west.say("2")
        await bob.wait_texts("2")
        assert await listeners() == 1
        # Where it stands is known all the same.
        assert (await east.rooms.inspect("den")).position.offset == 2
        await west.leave(bob)
        await west.rooms.inspect("den")
        assert ann.texts() == []


async def test_events_missed_by_the_feed_are_delivered_from_the_history(redis: RedisServer) -> None:
    async with open_proxy(redis.port) as proxy, open_node(proxy.url) as east, open_node(redis.url) as west:
        ann = await east.enter("ann")
        proxy.is_closed_to_feeds = True
        proxy.cut(proxy.feeds())
        await wait_trouble(east.engine, "feed: ")
        await west.say("1", "2")
        assert isinstance(await east.chat(ann, "3", 1), Acknowledged)
        assert ann.texts() == []
        proxy.is_closed_to_feeds = False
        await ann.wait_texts("1", "2", "3")
        await wait_ready(east.engine)
        await west.say("4")
        await ann.wait_texts("1", "2", "3", "4")


async def test_a_server_restarted_with_its_data_is_caught_up_with(tmp_path: Path) -> None:
    with run_redis(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as redis:
        async with open_node(redis.url) as east, open_node(redis.url) as west:
            ann, bob = await east.enter("ann"), await west.enter("bob")
            await east.say("1")
            await ann.wait_texts("1")
            redis.kill()
            refused = await east.chat(ann, "2", 1)
            assert isinstance(refused, Failed)
            assert refused.refused.retry_after_ms is not None
            redis.start()
            # Others may speak before this node has its feed back.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(west.publish, "2", "2")
                nursery.start_soon(east.publish, "3", "3")
            for guest in (ann, bob):
                await guest.wait(lambda guest=guest: len(guest.texts()) == 3)
                assert guest.disconnects == []
            assert ann.texts() == bob.texts()
            assert sorted(ann.texts()) == ["1", "2", "3"]


async def test_a_server_restarted_without_its_data_begins_anew(redis: RedisServer) -> None:
    async with open_node(redis.url) as east, open_node(redis.url) as west:
        ann, bob = await east.enter("ann"), await west.enter("bob")
        await east.say("1", "2")
        await ann.wait_texts("1", "2")
        await bob.wait_texts("1", "2")
        before = ann.at
        redis.kill()
        await wait_trouble(east.engine, "cannot connect")
        redis.start()
        await west.publish("3", "3")
        for guest in (ann, bob):
            await guest.wait_texts("1", "2", "3")
            assert guest.at is not None
            assert before is not None
            assert guest.at.epoch != before.epoch
            assert guest.at.offset == 1
        assert not (await west.join(Guest("cas"), since=before)).is_recovered


async def test_a_frozen_server_is_unavailable_and_nothing_is_told_twice(redis: RedisServer) -> None:
    async with open_node(redis.url) as east, open_node(redis.url) as west:
        ann, bob = await east.enter("ann"), await west.enter("bob")
        await east.say("1")
        await ann.wait_texts("1")
        redis.freeze()
        assert isinstance(await east.chat(ann, "2", 1), Failed)
        assert isinstance(await east.chat(ann, "2", 1), Failed)
        redis.thaw()
        while isinstance(await east.chat(ann, "2", 1), Failed):  # noqa: ASYNC110  # another process is to heal
            await trio.sleep(0.01)
        await west.publish("3", "3")
        for guest in (ann, bob):
            await guest.wait_texts("1", "2", "3")


async def test_rooms_are_spread_over_servers_and_only_those_of_a_lost_one_suffer(
    redis: RedisServer, tmp_path: Path
) -> None:
    directory = tmp_path / "other"
    directory.mkdir()
    with run_redis(directory) as other:
        url = f"{redis.url},127.0.0.1:{other.port}"
        async with open_node(url) as east, open_node(url) as west:
            rooms = [f"room {number}" for number in range(20)]
            guests = {room: await east.enter("ann", room) for room in rooms}
            other.kill()
            lost = []
            for room in rooms:
                try:
                    await west.say("1", room=room)
                except EngineUnavailableError:
                    lost.append(room)
                else:
                    await guests[room].wait_texts("1")
            assert 0 < len(lost) < len(rooms)
            other.start()
            for room in lost:
                await west.publish("1", "1", room)
                await guests[room].wait_texts("1")


async def test_a_room_that_hears_more_than_it_can_hold_catches_up(redis: RedisServer) -> None:
    async with open_node(redis.url) as east, open_node(redis.url) as west:
        bob = await west.enter("bob")
        padding = "x" * 60_000
        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(east.say, f"{number} {padding}")
        position = await east.engine.position("den")
        assert position.offset == 300
        await bob.wait(lambda: bob.at == Position(position.epoch, 300))
