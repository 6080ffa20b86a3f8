"""Info and state over all nodes, also beside a node of an earlier version."""

from collections.abc import Sequence

import msgspec
import trio

from broker.model import PresenceBy, Shown
from broker.notices import PresenceChanged, PresenceUpdated, UserJoined, UserLeft
from broker.rooms.messages import SetState, ShowInfo
from tests.cluster.nodes import Guest, Node, open_node
from tests.support.redis import RedisServer


async def listed(node: Node) -> list[Shown]:
    info = await node.rooms.inspect("den", PresenceBy.CONNECTION)
    assert info.presence is not None
    assert info.presence.connections is not None
    return sorted(info.presence.connections, key=lambda shown: shown.connection)


async def wait_listed(nodes: Sequence[Node], expected: Sequence[Shown]) -> None:
    for node in nodes:
        while await listed(node) != sorted(expected, key=lambda shown: shown.connection):
            await trio.sleep(0.01)


def shown_to(guest: Guest) -> list[Shown]:
    return [notice.shown for notice in guest.heard_of(PresenceUpdated)]


async def test_info_and_state_are_shown_on_all_nodes(redis: RedisServer) -> None:
    async with open_node(redis.url) as east, open_node(redis.url) as west, open_node(redis.url) as empty:
        ann = await east.enter("ann", info=b'"A"')
        bob = await west.enter("bob")
        await ann.wait(lambda: len(ann.heard_of(UserJoined)) == 2)
        await wait_listed((east, west, empty), [ann.shown, bob.shown])
        await west.tell(SetState(bob, b"1"))
        await east.tell(SetState(ann, b"2"))
        one, two = (
            msgspec.structs.replace(bob.shown, state=b"1"),
            msgspec.structs.replace(ann.shown, state=b"2"),
        )
        for guest in (ann, bob):
            await guest.wait(lambda guest=guest: len(shown_to(guest)) == 2)
            assert {shown.connection: shown for shown in shown_to(guest)} == {
                one.connection: one,
                two.connection: two,
            }
        bob.shown = msgspec.structs.replace(bob.shown, info=b'"B"')
        await west.tell(ShowInfo(bob))
        await ann.wait(lambda: len(shown_to(ann)) == 3)
        both = msgspec.structs.replace(bob.shown, state=b"1")
        assert shown_to(ann)[-1] == both
        await wait_listed((east, west, empty), [two, both])
        await west.leave(bob)
        await ann.wait(lambda: bool(ann.heard_of(UserLeft)))
        assert ann.heard_of(UserLeft) == [UserLeft("den", "bob", 1, both)]


async def test_the_info_of_a_users_newest_connection_is_the_same_on_all_nodes(redis: RedisServer) -> None:
    async with open_node(redis.url) as east, open_node(redis.url) as west:
        first = await east.enter("ann", info=b"1")
        second = await west.enter("ann", info=b"2")
        third = await east.enter("ann")
        await wait_listed((east, west), [first.shown, second.shown, third.shown])
        for node in (east, west):
            info = await node.rooms.inspect("den")
            assert info.presence is not None
            assert (info.presence.users, info.presence.infos) == ((("ann", 3),), {"ann": b"2"})


async def test_updates_of_another_node_are_gathered_too(redis: RedisServer) -> None:
    settings = {"gather_above": 0, "gather_seconds": 0.05}
    async with open_node(redis.url, **settings) as east, open_node(redis.url, **settings) as west:
        ann, bob = await east.enter("ann"), await west.enter("bob", info=b'"B"')
        for number in range(30):
            await west.tell(SetState(bob, b"%d" % number))
        last = msgspec.structs.replace(bob.shown, state=b"29")

        def updates() -> list[Shown]:
            return [shown for notice in ann.heard_of(PresenceChanged) for shown in notice.updated]

        await ann.wait(lambda: last in updates())
        assert updates()[-1] == last
        assert not shown_to(ann)
        await west.leave(bob)
        await ann.wait(lambda: any(notice.gone for notice in ann.heard_of(PresenceChanged)))


async def test_users_of_a_node_of_an_earlier_version_are_counted(redis: RedisServer) -> None:
    """It announces users with counts, and publishes them in a form of its own; it reads the users of others."""
    async with open_node(redis.url, lease_seconds=1e6) as east:
        ann = await east.enter("ann", info=b'"A"')
        keys = east.engine._keyspace.room("den")
        while not redis.ask("EXISTS", keys.nodes):  # noqa: ASYNC110  # announced soon
            await trio.sleep(0.01)
        [node] = [name.decode() for name in redis.ask("HKEYS", keys.nodes)]
        assert redis.ask("HGETALL", keys.users + node) == [b"ann", b"1"]
        now_ms = redis.ask("ZSCORE", east.engine._keyspace.alive, node).decode()
        redis.ask("ZADD", east.engine._keyspace.alive, now_ms, "old")
        redis.ask("HSET", keys.users + "old", "bob", "2")
        version = 1 << 60
        redis.ask("HSET", keys.nodes, "old", f"{version} 2")
        redis.ask("PUBLISH", keys.channel, msgspec.msgpack.encode(("old", version, 0, ["bob", "2"])))
        await ann.wait(lambda: len(ann.heard_of(UserJoined)) == 3)
        assert ann.heard_of(UserJoined)[1:] == [UserJoined("den", "bob", 2), UserJoined("den", "bob", 3)]
        info = await east.rooms.inspect("den")
        assert sorted(info.users) == [("ann", 1), ("bob", 2)]
        redis.ask("HDEL", keys.nodes, "old")
        redis.ask("PUBLISH", keys.channel, msgspec.msgpack.encode(("old", version + 1, 0, {})))
        await ann.wait(lambda: len(ann.heard_of(UserLeft)) == 2)
