"""Presence over all nodes: each join and leave is delivered once everywhere, under any failure of nodes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio

from broker.errors import EngineUnavailableError, Refused
from broker.model import Draft
from broker.notices import PresenceChanged, PresenceList, UserJoined, UserLeft
from broker.rooms.messages import SendPresence
from tests.cluster.nodes import LEASE_SECONDS, Guest, Node, open_node
from tests.engine.redis.opened import wait_ready, wait_trouble, wait_until
from tests.support.redis import RedisServer, run_redis
from tests.support.redis_proxy import open_proxy


def comings(guest: Guest) -> list[tuple[str, str, int]]:
    """Return who came (+) and went (-), with the size that was told."""
    told = []
    for notice in guest.heard:
        if isinstance(notice, UserJoined | UserLeft):
            sign = "+" if isinstance(notice, UserJoined) else "-"
            told.append((sign, notice.user_id, notice.room_size))
    return told


async def wait_comings(guest: Guest, *expected: tuple[str, str, int]) -> None:
    await guest.wait(lambda: len(comings(guest)) >= len(expected))
    assert comings(guest) == list(expected)


async def sizes(*nodes: Node) -> list[int]:
    return [(await node.rooms.inspect("den")).room_size for node in nodes]


@asynccontextmanager
async def open_mortal(url: str) -> AsyncIterator[tuple[Node, trio.CancelScope]]:
    """Open a node that dies without a word when the scope is cancelled."""
    with trio.CancelScope() as scope:
        async with open_node(url) as node:
            yield node, scope


async def test_members_on_other_nodes_take_places(redis: RedisServer) -> None:
    async with open_node(redis.url, max_members=2) as east, open_node(redis.url, max_members=2) as west:
        ann = await east.enter("ann")
        bob = await west.enter("bob")
        await wait_comings(ann, ("+", "ann", 1), ("+", "bob", 2))
        for node in (east, west):
            with pytest.raises(Refused, match="room_full"):
                await node.enter("cas")
        await east.join(ann)
        await east.leave(ann)
        # A node without members of its own asks before it lets somebody in.
        await east.enter("cas")
        with pytest.raises(Refused, match="room_full"):
            await east.enter("dan")
        await bob.wait(lambda: len(comings(bob)) == 3)
        with pytest.raises(Refused, match="room_full"):
            await west.enter("dan")


async def test_comings_and_goings_are_told_once_on_every_node(redis: RedisServer) -> None:
    async with open_node(redis.url) as east, open_node(redis.url) as west:
        ann = await east.enter("ann")
        bob = await west.enter("bob")
        await wait_comings(ann, ("+", "ann", 1), ("+", "bob", 2))
        await wait_comings(bob, ("+", "bob", 2))
        cas = await east.enter("cas")
        bob_too = await east.enter("bob")
        await wait_comings(bob, ("+", "bob", 2), ("+", "cas", 3), ("+", "bob", 4))
        assert await sizes(east, west) == [4, 4]
        await east.leave(bob_too)
        await east.leave(cas)
        await bob.wait(lambda: len(comings(bob)) == 5)
        assert {coming[:2] for coming in comings(bob)[3:]} == {("-", "bob"), ("-", "cas")}
        assert await sizes(east, west) == [2, 2]


async def test_the_list_and_the_size_count_all_nodes(redis: RedisServer) -> None:
    async with open_node(redis.url) as east, open_node(redis.url) as west, open_node(redis.url) as empty:
        ann = await east.enter("ann")
        for user_id in ("ann", "bob"):
            await west.enter(user_id)
        await ann.wait(lambda: len(comings(ann)) == 3)
        await east.tell(SendPresence(ann, 7))
        await ann.wait(lambda: bool(ann.heard_of(PresenceList)))
        [answer] = ann.heard_of(PresenceList)
        assert answer.room_size == 3
        assert dict(answer.users) == {"ann": 2, "bob": 1}
        # A node where nobody is knows as well.
        info = await empty.rooms.inspect("den")
        assert (info.room_size, dict(info.users)) == (3, {"ann": 2, "bob": 1})
        assert (await empty.rooms.publish("den", Draft(b"{}"))).room_size == 3
        joined = await empty.join(Guest("cas"))
        assert joined.room_size == 4


async def test_a_large_room_batches_joins_and_leaves_of_other_nodes(redis: RedisServer) -> None:
    async with (
        open_node(redis.url, gather_above=2, gather_seconds=0.05) as east,
        open_node(redis.url) as west,
    ):
        ann = await east.enter("ann")
        for number in range(20):
            await west.enter(f"guest {number}")

        def joined() -> list[str]:
            gathered = [user for notice in ann.heard_of(PresenceChanged) for user in notice.joined]
            return [user for sign, user, _ in comings(ann) if sign == "+"] + gathered

        await ann.wait(lambda: len(joined()) == 21)
        assert sorted(joined()) == sorted(["ann", *(f"guest {number}" for number in range(20))])
        assert await sizes(east) == [21]


async def test_the_users_of_a_node_that_dies_leave_once(redis: RedisServer) -> None:
    async with open_node(redis.url) as east, open_node(redis.url) as west:
        async with open_mortal(redis.url) as (south, scope):
            ann, bob = await east.enter("ann"), await west.enter("bob")
            for user_id in ("cas", "cas", "dan"):
                await south.enter(user_id)
            for guest in (ann, bob):
                await guest.wait(lambda guest=guest: len({user for _, user, _ in comings(guest)}) >= 2)
                await guest.wait(lambda guest=guest: ("+", "dan") in {c[:2] for c in comings(guest)})
            scope.cancel()
        for guest in (ann, bob):
            gone = [("-", "cas"), ("-", "cas"), ("-", "dan")]
            await guest.wait(lambda guest=guest: len([c for c in comings(guest) if c[0] == "-"]) >= 3)
            assert sorted(coming[:2] for coming in comings(guest) if coming[0] == "-") == gone
        assert await sizes(east, west) == [2, 2]
        # Neither hears of it again.
        cas = await west.enter("cas")
        await wait_ready(east.engine)
        for guest in (ann, bob):
            await guest.wait(lambda guest=guest: comings(guest)[-1] == ("+", "cas", 3))
            assert len([c for c in comings(guest) if c[0] == "-"]) == 3
        assert cas.heard


async def test_a_node_that_stops_in_peace_is_not_waited_for(redis: RedisServer) -> None:
    # A lease that no test waits for: bob's leave is heard because the node said it.
    async with open_node(redis.url, lease_seconds=1e6) as east:
        ann = await east.enter("ann")
        async with open_node(redis.url, lease_seconds=1e6) as west:
            bob = await west.enter("bob")
            await wait_comings(ann, ("+", "ann", 1), ("+", "bob", 2))
            await west.leave(bob)
        await wait_comings(ann, ("+", "ann", 1), ("+", "bob", 2), ("-", "bob", 1))


async def test_a_node_that_was_only_away_has_its_users_join_again(redis: RedisServer) -> None:
    async with open_proxy(redis.port) as proxy, open_node(redis.url) as east, open_node(proxy.url) as west:
        ann, bob = await east.enter("ann"), await west.enter("bob")
        await wait_comings(ann, ("+", "ann", 1), ("+", "bob", 2))
        proxy.is_closed = True
        proxy.cut(proxy.routes)
        await wait_comings(ann, ("+", "ann", 1), ("+", "bob", 2), ("-", "bob", 1))
        cas = await east.enter("cas")
        proxy.is_closed = False
        await wait_ready(west.engine)
        await ann.wait(lambda: len(comings(ann)) == 5)
        assert comings(ann)[3:] == [("+", "cas", 2), ("+", "bob", 3)]
        # To bob it looks as if he had never been away.
        await bob.wait(lambda: len(comings(bob)) == 2)
        assert comings(bob) == [("+", "bob", 2), ("+", "cas", 3)]
        assert await sizes(east, west) == [3, 3]
        assert cas.disconnects == bob.disconnects == []


async def test_nobody_leaves_when_redis_forgets_everything(redis: RedisServer) -> None:
    async with open_proxy(redis.port) as proxy, open_node(redis.url) as east, open_node(proxy.url) as west:
        ann, bob = await east.enter("ann"), await west.enter("bob")
        dan = await west.enter("dan")
        await wait_comings(ann, ("+", "ann", 1), ("+", "bob", 2), ("+", "dan", 3))
        proxy.is_closed = True
        redis.kill()
        await wait_trouble(east.engine, "cannot connect")
        await wait_trouble(west.engine, "connection")
        # While it is away, one more comes and one goes; who is told later is told once.
        cas = await west.enter("cas")
        await west.leave(bob)
        redis.start()
        await wait_ready(east.engine)
        # East has looked, and west was not there yet.
        await east.publish("1", "1")
        await ann.wait_texts("1")
        proxy.is_closed = False
        await wait_ready(west.engine)
        await ann.wait(lambda: len(comings(ann)) == 5)
        assert {coming[:2] for coming in comings(ann)[3:]} == {("+", "cas"), ("-", "bob")}
        await trio.sleep(LEASE_SECONDS + 0.2)  # nobody is counted out late
        assert len(comings(ann)) == 5
        assert await sizes(east, west) == [3, 3]
        assert cas.disconnects == dan.disconnects == []


async def test_a_node_that_died_while_redis_forgot_everything_is_counted_out(redis: RedisServer) -> None:
    async with open_node(redis.url) as east:
        async with open_mortal(redis.url) as (west, scope):
            ann = await east.enter("ann")
            await west.enter("bob")
            await wait_comings(ann, ("+", "ann", 1), ("+", "bob", 2))
            redis.kill()
            scope.cancel()
        redis.start()
        await wait_ready(east.engine)
        await wait_comings(ann, ("+", "ann", 1), ("+", "bob", 2), ("-", "bob", 1))
        assert await sizes(east) == [1]


async def test_a_user_is_removed_on_all_nodes(redis: RedisServer) -> None:
    async with open_node(redis.url) as east, open_node(redis.url) as west, open_node(redis.url) as empty:
        ann, bob = await east.enter("ann"), await west.enter("bob")
        for asked in (east, west, empty):
            here, there = await east.enter("cas"), await west.enter("cas")
            for guest in (ann, bob):
                await guest.wait(lambda guest=guest: comings(guest)[-1][2] == 4)
            assert await asked.rooms.remove("den", "cas") == 2
            for guest in (here, there):
                await guest.wait(lambda guest=guest: bool(guest.removals))
            for guest in (ann, bob):
                await guest.wait(lambda guest=guest: comings(guest)[-1][2] == 2)
        assert await empty.rooms.remove("den", "cas") == 0
        assert ann.removals == bob.removals == []


async def test_a_removal_that_not_all_nodes_can_hear_is_refused(redis: RedisServer) -> None:
    async with open_proxy(redis.port) as proxy, open_node(redis.url) as east, open_node(proxy.url) as west:
        ann, cas = await east.enter("ann"), await west.enter("cas")
        await wait_comings(ann, ("+", "ann", 1), ("+", "cas", 2))
        proxy.is_closed_to_feeds = True
        proxy.cut(proxy.feeds())
        await wait_trouble(west.engine, "feed: ")
        with pytest.raises(EngineUnavailableError, match="cannot hear"):
            await east.rooms.remove("den", "cas")
        proxy.is_closed_to_feeds = False
        await wait_ready(west.engine)
        removed: list[int] = []

        async def is_removed() -> bool:
            # A feed that is up may not yet hear of every room again.
            with suppress(EngineUnavailableError):
                removed.append(await east.rooms.remove("den", "cas"))
            return bool(removed)

        await wait_until(is_removed)
        assert removed == [1]
        await cas.wait(lambda: bool(cas.removals))


async def test_rooms_of_all_nodes_and_servers_are_listed_page_by_page(
    redis: RedisServer, tmp_path: Path
) -> None:
    directory = tmp_path / "other"
    directory.mkdir()
    with run_redis(directory) as other:
        url = f"{redis.url},127.0.0.1:{other.port}"
        async with open_node(url) as east, open_node(url) as west:
            for number in range(10):
                await (east, west)[number % 2].enter("ann", f"team.{number}")
            await west.enter("bob", "team.3")
            await east.enter("bob", "team.3")
            await west.enter("ann", "äther")
            await east.say("1", "2", room="team.1")

            async def listed(node: Node, **query: str | int) -> list[tuple[str, int]]:
                infos = await node.rooms.list_everywhere(**{"limit": 100, **query})
                return [(info.room, info.room_size) for info in infos]

            teams = [(f"team.{number}", 3 if number == 3 else 1) for number in range(10)]
            for node in (east, west):
                while await listed(node) != [*teams, ("äther", 1)]:  # noqa: ASYNC110  # told soon
                    await trio.sleep(0.01)
                assert await listed(node, prefix="team.") == teams
                assert await listed(node, prefix="team.", after="team.2", limit=3) == teams[3:6]
                assert await listed(node, after="team.8", limit=2) == [teams[9], ("äther", 1)]
                assert await listed(node, prefix="x") == []
            [info] = await west.rooms.list_everywhere(prefix="team.1", limit=1)
            assert info.position.offset == 2
            [info] = await east.rooms.list_everywhere(prefix="team.0", limit=1)
            assert info.users == (("ann", 1),)


async def test_a_room_that_everyone_has_left_is_not_listed(redis: RedisServer) -> None:
    async with open_node(redis.url) as east:
        async with open_node(redis.url) as west:
            bob = await west.enter("bob")
            await west.leave(bob)
        assert await east.rooms.list_everywhere(limit=10) == []
        async with open_mortal(redis.url) as (south, scope):
            await south.enter("cas", "attic")
            while not await east.rooms.list_everywhere(limit=10):  # noqa: ASYNC110  # told soon
                await trio.sleep(0.01)
            scope.cancel()
        while await east.rooms.list_everywhere(limit=10):  # noqa: ASYNC110  # when its lease has run out
            await trio.sleep(0.01)
        assert redis.ask("ZCARD", "cluster:rooms") == 0
