"""Rooms with code on two nodes: one owner at a time, and nothing stored by a node that is the owner no more."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from secrets import token_hex

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.engine.base import Receipt
from broker.engine.outbox import Kind, Queue
from broker.engine.redis.engine import RedisEngine
from broker.engine.redis.keyspace import room_of, tag_of
from broker.engine.redis.room_store import RedisRoomStore
from broker.engine.room_store import (
    Answer,
    DueTimer,
    Move,
    OwnedElsewhereError,
    OwnershipLostError,
    StoredAnswer,
    StoredRoom,
    StoredState,
    StoredTurn,
)
from broker.errors import EngineTrouble, EngineUnavailableError
from broker.metrics import MoveCollector
from broker.model import IdempotencyKey
from tests.engine.redis.opened import KEEP, Ear, draft, opened, wait_ready
from tests.support.redis import RedisServer

FIRST, SECOND = StoredState("Counter", 1, b'{"n":1}'), StoredState("Counter", 1, b'{"n":2}')
KEY = IdempotencyKey("ann", "k")
TURN = StoredTurn([draft(1), draft(2)], {"a": 10}, StoredAnswer(KEY, b"1", 1))
LEASE_SECONDS = 3600.0


@attrs.frozen
class Nodes:
    """Two nodes whose leases end when a test says so."""

    redis: RedisServer
    prefix: str
    one: RedisEngine
    two: RedisEngine

    def end_lease(self, engine: RedisEngine) -> None:
        assert self.redis.ask("ZREM", f"{self.prefix}:alive", engine._node) == 1

    def begin_lease(self, engine: RedisEngine) -> None:
        self.redis.ask("ZADD", f"{self.prefix}:alive", "9" * 14, engine._node)

    def dump(self) -> dict[bytes, bytes]:
        """Return all that is stored under the prefix, but for the heartbeats."""
        keys = sorted(self.redis.ask("KEYS", f"{self.prefix}:*"))
        return {key: self.redis.ask("DUMP", key) for key in keys if not key.endswith(b":alive")}


@pytest.fixture
async def nodes(shared_redis: RedisServer) -> AsyncIterator[Nodes]:
    prefix = token_hex(8)

    def opened_node() -> AbstractAsyncContextManager[RedisEngine]:
        return opened(
            shared_redis.url, prefix=prefix, probe_seconds=LEASE_SECONDS / 2, lease_seconds=LEASE_SECONDS
        )

    async with opened_node() as one, opened_node() as two:
        for engine in (one, two):
            await wait_ready(engine)
        yield Nodes(shared_redis, prefix, one, two)


async def save(
    store: RedisRoomStore, *turns: StoredTurn, state: StoredState | None = FIRST, room: str = "den"
) -> Sequence[Sequence[Receipt]]:
    return await store.store(room, turns, state, KEEP, is_state_changed=True)


async def check_owner(store: RedisRoomStore, room: str = "den") -> None:
    await store.store(room, [], None, KEEP, is_state_changed=False)


async def test_a_room_has_one_owner_while_that_is_alive(nodes: Nodes) -> None:
    one, two = nodes.one.room_store, nodes.two.room_store
    assert one.is_shared
    await one.load("den")
    await save(one, TURN)
    with pytest.raises(OwnedElsewhereError) as caught:
        await two.load("den")
    assert caught.value.node == nodes.one._node
    before = nodes.dump()
    with pytest.raises(OwnershipLostError):
        await save(two, TURN, state=SECOND)
    assert nodes.dump() == before
    # Each of them may own another room, and load its own again.
    await two.load("attic")
    await save(two, TURN, room="attic")
    assert await one.load("den") == StoredRoom(FIRST, {"a": 10})
    await save(one, TURN, state=SECOND)
    assert await two.recall("den", KEY) == await one.recall("den", KEY)
    assert dict(one.moves) == dict(two.moves) == {}


async def test_a_room_moves_when_the_lease_of_its_owner_ends(nodes: Nodes) -> None:
    one, two = nodes.one.room_store, nodes.two.room_store
    await one.load("den")
    [[_, second]] = await save(one, TURN)
    nodes.end_lease(nodes.one)
    assert await two.load("den") == StoredRoom(FIRST, {"a": 10})
    assert await two.recall("den", KEY) == Answer(b"1", second.position)
    assert dict(two.moves) == {Move.LOST: 1}

    # It was only away: it stores nothing more, of anything.
    nodes.begin_lease(nodes.one)
    before = nodes.dump()
    ear = Ear()
    await nodes.two.subscribe("den", ear)
    later = StoredTurn([draft(3), draft(4, ephemeral=True)], {"a": None, "b": 1}, StoredAnswer(KEY, b"2", 0))
    for _ in range(2):
        with pytest.raises(OwnershipLostError) as caught:
            await save(one, later, state=SECOND)
        assert caught.value.trouble is EngineTrouble.ROOM_MOVED
        assert "den" not in one._fences
    assert nodes.dump() == before
    await save(two, StoredTurn([draft(5)]))
    await ear.wait(lambda: bool(ear.heard))
    assert ear.offsets() == [3]
    with pytest.raises(OwnedElsewhereError):
        await one.load("den")


async def test_an_owner_without_a_lease_stores_until_the_room_is_taken(nodes: Nodes) -> None:
    one, two = nodes.one.room_store, nodes.two.room_store
    await one.load("den")
    nodes.end_lease(nodes.one)
    await save(one, TURN)
    await check_owner(one)
    with pytest.raises(EngineUnavailableError, match="lease has run out"):
        await one.load("den")
    # It is the owner no more, as it did not load the room.
    with pytest.raises(OwnershipLostError):
        await check_owner(one)
    with pytest.raises(EngineUnavailableError, match="lease has run out"):
        await one.load("attic")
    assert await two.load("attic") == StoredRoom()
    nodes.begin_lease(nodes.one)
    assert await one.load("den") == StoredRoom(FIRST, {"a": 10})


async def test_a_script_that_was_sent_before_the_room_was_loaded_again_stores_nothing(nodes: Nodes) -> None:
    """Its answer may be lost with a connection, and Redis execute it afterwards."""
    store = nodes.one.room_store
    await store.load("den")
    fence = store._fences["den"]
    await store.load("den")
    assert store._fences["den"] > fence
    store._fences["den"] = fence
    before = nodes.dump()
    with pytest.raises(OwnershipLostError):
        await save(store, TURN)
    store._fences["den"] = fence
    await store.release("den")
    assert nodes.dump() == before
    # Sent before the room was released.
    await store.load("den")
    fence = store._fences["den"]
    await store.release("den")
    store._fences["den"] = fence
    with pytest.raises(OwnershipLostError):
        await save(store, TURN)


async def test_a_released_room_moves_at_once(nodes: Nodes) -> None:
    one, two = nodes.one.room_store, nodes.two.room_store
    for room, state in (("den", FIRST), ("attic", None)):
        await one.load(room)
        await save(one, StoredTurn(timers={"a": 1} if state else {}), room=room, state=state)
    await two.release("den")
    with pytest.raises(OwnedElsewhereError):
        await two.load("den")
    for room, state in (("den", FIRST), ("attic", None)):
        await one.release(room)
        await one.release(room)
        with pytest.raises(OwnershipLostError):
            await check_owner(one, room)
        assert (await two.load(room)).state == state
        await check_owner(two, room)
        await two.load(room)
    assert dict(two.moves) == {Move.RELEASED: 2}
    [moves] = MoveCollector(two).collect()
    assert {sample.labels["reason"]: sample.value for sample in moves.samples} == {"released": 2, "lost": 0}
    # Loaded again by the node that released it, it has not moved.
    await two.release("den")
    await two.load("den")
    assert dict(two.moves) == {Move.RELEASED: 2}
    # Released by a node that lost it: nothing happens.
    one._fences["den"] = 1
    await one.release("den")
    await check_owner(two)


async def test_rooms_of_which_nothing_is_stored_leave_nothing_for_long(nodes: Nodes) -> None:
    store, redis = nodes.one.room_store, nodes.redis
    key = f"{nodes.prefix}:{{den}}:code"
    is_stored = False
    for state, timers in ((None, {}), (None, {"a": 1}), (FIRST, {"a": None}), (None, {})):
        # Its owner may die at any time.
        await store.load("den")
        assert (redis.ask("TTL", key) < 0) == is_stored
        await save(store, StoredTurn(timers=timers), state=state)
        is_stored = state is not None or timers == {"a": 1}
        assert (redis.ask("TTL", key) < 0) == is_stored
        await store.release("den")
        assert (redis.ask("TTL", key) < 0) == is_stored
        assert redis.ask("TTL", f"{nodes.prefix}:{{den}}:timers") < 0


@given(room=st.text("%257BD{}\N{DUCK}", max_size=12))
def test_the_room_of_a_tag_is_found(room: str) -> None:
    assert room_of(tag_of(room)) == room


async def test_timers_of_rooms_with_another_owner_are_left_out(nodes: Nodes) -> None:
    one, two = nodes.one.room_store, nodes.two.room_store
    for number in range(300):
        await one.load(f"{{%{number}}}")
        await save(one, StoredTurn(timers={"\N{DUCK}": number}), room=f"{{%{number}}}")
    await two.load("den")
    await save(two, StoredTurn(timers={"a": 500, "b": 1000}))
    of_one = [DueTimer(f"{{%{number}}}", "\N{DUCK}", number) for number in range(300)]
    of_two = [DueTimer("den", "a", 500), DueTimer("den", "b", 1000)]
    for limit in (1, 2, 9):
        assert list(await two.earliest_timers(limit)) == of_two[:limit]
    assert list(await one.earliest_timers(400)) == of_one
    await one.release("{%7}")
    assert list(await two.earliest_timers(2)) == [of_one[7], of_two[0]]
    nodes.end_lease(nodes.one)
    assert list(await two.earliest_timers(9)) == of_one[:9]
    nodes.begin_lease(nodes.one)
    nodes.end_lease(nodes.two)
    assert list(await one.earliest_timers(400)) == of_one + of_two


async def test_timers_of_all_servers_are_merged_and_a_server_that_is_away_holds_up_no_other(
    redis: RedisServer, shared_redis: RedisServer
) -> None:
    both = f"{redis.url},127.0.0.1:{shared_redis.port}"
    async with opened(both) as engine, opened(redis.url) as engine_of_one:
        store = engine.room_store
        timers = [DueTimer(f"room {number}", "a", number) for number in range(20)]
        for timer in timers:
            await store.load(timer.room)
            await save(store, StoredTurn(timers={timer.name: timer.due_ms}), room=timer.room)
        for limit in (7, 20):
            assert list(await store.earliest_timers(limit)) == timers[:limit]
        redis.kill()
        left = [timer for timer in timers if str(redis.port) not in engine._server(timer.room).name]
        assert 0 < len(left) < len(timers)
        assert list(await store.earliest_timers(20)) == left
        with pytest.raises(EngineUnavailableError):
            await engine_of_one.room_store.earliest_timers(20)


async def test_a_room_whose_keys_are_of_no_use_holds_up_no_timer_of_others(nodes: Nodes) -> None:
    store, redis = nodes.one.room_store, nodes.redis
    rooms = ["evicted", "overwritten", "foreign", "den"]
    for due_ms, room in enumerate(rooms):
        await store.load(room)
        await save(store, StoredTurn([draft(1)], {"a": due_ms}), room=room)
    redis.ask("DEL", f"{nodes.prefix}:{{evicted}}:timers")
    for room, key in (("overwritten", "timers"), ("foreign", "code")):
        redis.ask("SET", f"{nodes.prefix}:{{{room}}}:{key}", "x")
    assert list(await store.earliest_timers(4)) == [DueTimer("den", "a", 3)]
    assert redis.ask("ZCARD", f"{nodes.prefix}:timers") == 3


@pytest.mark.parametrize("key", ["{den}:code", "{den}:timers", "timers", "{den}:room", "outbox:waiting:all"])
async def test_a_key_of_another_type_refuses_all_of_a_store(shared_redis: RedisServer, key: str) -> None:
    prefix = token_hex(8)
    queues = [Queue("all", frozenset(Kind))]
    async with opened(shared_redis.url, prefix=prefix, queues=queues) as engine:
        nodes = Nodes(shared_redis, prefix, engine, engine)
        store = engine.room_store
        await store.load("den")
        shared_redis.ask("SET", f"{prefix}:{key}", "x")
        before = nodes.dump()
        with pytest.raises(EngineUnavailableError, match="WRONGTYPE"):
            await save(store, TURN)
        assert nodes.dump() == before
        shared_redis.ask("DEL", f"{prefix}:{key}")
        if key == "{den}:code":
            await store.load("den")
        await save(store, TURN)


async def test_an_owner_whose_data_is_lost_stores_nothing_more(nodes: Nodes) -> None:
    one, two = nodes.one.room_store, nodes.two.room_store
    await one.load("den")
    await save(one, TURN)
    fence = one._fences["den"]
    nodes.redis.ask("FLUSHALL")
    with pytest.raises(OwnershipLostError):
        await save(one, StoredTurn([draft(3)]), state=SECOND)
    assert nodes.dump() == {}
    for engine in (nodes.one, nodes.two):
        nodes.begin_lease(engine)
    assert await two.load("den") == StoredRoom()
    # Numbers rise after the loss too.
    assert two._fences["den"] > fence
    with pytest.raises(OwnedElsewhereError):
        await one.load("den")


async def test_a_server_out_of_memory_stores_nothing_of_turns(redis: RedisServer) -> None:
    turns = {
        "events": StoredTurn([draft(3)]),
        "timers": StoredTurn([draft(3, ephemeral=True)], {"b": 1, "a": None}),
        "answer": StoredTurn([draft(3, ephemeral=True)], answer=StoredAnswer(KEY, b"2", 0)),
    }
    async with opened(redis.url, prefix="full") as engine:
        nodes, store = Nodes(redis, "full", engine, engine), engine.room_store
        ear = Ear()
        await wait_ready(engine)
        await engine.subscribe("den", ear)
        await engine.subscribe("new", ear)
        for room in ("den", "new"):
            await store.load(room)
        await save(store, TURN)
        await ear.wait(lambda: len(ear.heard) == 2)
        before = nodes.dump()
        redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1000")
        for room in ("den", "new"):
            for turn in turns.values():
                with pytest.raises(EngineUnavailableError, match="OOM"):
                    await store.store(room, [turn], None, KEEP, is_state_changed=False)
            with pytest.raises(EngineUnavailableError, match="OOM"):
                await save(store, StoredTurn([draft(3, ephemeral=True)]), state=SECOND, room=room)
        with pytest.raises(EngineUnavailableError, match="OOM"):
            await store.load("attic")
        assert nodes.dump() == before
        # Less can be stored, and what is not stored still goes out.
        removed = StoredTurn([draft(4, ephemeral=True)], {"a": None})
        await store.store("den", [removed], None, KEEP, is_state_changed=True)
        await store.release("den")
        redis.ask("CONFIG", "SET", "maxmemory", "0")
        await ear.wait(lambda: len(ear.heard) == 3)
        assert ear.offsets() == [1, 2, None]
        assert await store.load("den") == StoredRoom()
        assert await store.recall("den", KEY) is not None


async def test_a_room_is_shown_by_any_node_and_owned_by_none_for_it(nodes: Nodes) -> None:
    one, two = nodes.one.room_store, nodes.two.room_store
    assert await two.peek("den") == StoredRoom()
    await one.load("den")
    await save(one, TURN)
    shown = StoredRoom(FIRST, {"a": 10}, nodes.one._node)
    before = nodes.dump()
    assert await one.peek("den") == await two.peek("den") == shown
    assert nodes.dump() == before
    nodes.end_lease(nodes.one)
    assert await two.peek("den") == attrs.evolve(shown, owner=None)
    nodes.begin_lease(nodes.one)
    await save(one, TURN, state=SECOND)
    assert (await two.peek("den")).state == SECOND
