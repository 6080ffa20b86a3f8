"""The outbox and the book of who is present, over several nodes and through the failures of nodes and of Redis."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex

import attrs
import pytest
import trio
import trio.testing

from broker.config.settings import RedisSettings
from broker.engine.attendance import user_place
from broker.engine.outbox import Entry, Kind, Queue
from broker.engine.redis.engine import RedisEngine
from broker.engine.redis.open import open_redis
from broker.errors import EngineUnavailableError
from broker.log import stdlib_log
from tests.engine.redis.opened import (
    KEEP,
    TEST_SECONDS,
    draft,
    wait_ready,
    wait_trouble,
    wait_until,
    when_served,
)
from tests.engine.sqlite_files import Wall
from tests.support.redis import RedisServer, run_redis
from tests.support.redis_proxy import open_proxy

QUEUES = (Queue("q", frozenset(Kind), hold_back_seconds=5.0),)
LEASE_SECONDS = 1.0
JOINED, LEFT = Kind.USER_JOINED, Kind.USER_LEFT
OCCUPIED, VACATED = Kind.ROOM_OCCUPIED, Kind.ROOM_VACATED
ONLINE, OFFLINE = Kind.USER_ONLINE, Kind.USER_OFFLINE


@attrs.define(eq=False)
class Cluster:
    """Nodes on one server, under one prefix, whose clock stands still until it is moved."""

    url: str
    prefix: str = attrs.Factory(lambda: token_hex(8))
    wall: Wall = attrs.Factory(Wall)
    queues: tuple[Queue, ...] = QUEUES

    @asynccontextmanager
    async def open_node(self) -> AsyncIterator[RedisEngine]:
        settings = RedisSettings(prefix=self.prefix, probe_seconds=0.05, lease_seconds=LEASE_SECONDS)
        with trio.fail_after(TEST_SECONDS):
            async with open_redis(
                *(self.url, settings),
                idempotency_seconds=300.0,
                wall_clock=self.wall,
                log=stdlib_log(),
                queues=self.queues,
            ) as engine:
                await wait_ready(engine)
                yield engine

    async def die(self, *, task_status: trio.TaskStatus[tuple[RedisEngine, Callable[[], None]]]) -> None:
        """Run a node until the callback given with it is called, which ends it without a word, as kill -9 does."""
        with trio.CancelScope() as scope:
            async with self.open_node() as engine:
                task_status.started((engine, scope.cancel))
                await trio.sleep_forever()


async def read(engine: RedisEngine) -> list[Entry]:
    assert engine.outbox is not None
    assert engine.attendance is not None
    await engine.attendance.wait_written()
    [partition] = engine.outbox.partitions
    return list(await engine.outbox.read(partition, "q", limit=1000))


async def told(engine: RedisEngine, place: str = "den") -> list[tuple[Kind, str | None]]:
    return [
        (each.kind, each.user)
        for each in await read(engine)
        if (each.room or user_place(each.user or "")) == place
    ]


def come(engine: RedisEngine, user: str = "ann", place: str = "den") -> None:
    assert engine.attendance is not None
    engine.attendance.came(place, user, None)


def leave(engine: RedisEngine, user: str = "ann", place: str = "den") -> None:
    assert engine.attendance is not None
    engine.attendance.left(place, user)


async def test_the_first_and_the_last_are_those_of_all_nodes(shared_redis: RedisServer) -> None:
    cluster = Cluster(shared_redis.url)
    came = [(OCCUPIED, None), (JOINED, "ann")]
    async with cluster.open_node() as one, cluster.open_node() as other:
        for place in ("den", "/ann"):
            come(one, place=place)
            assert await told(one, place) == (came if place == "den" else [(ONLINE, "ann")])
            come(other, place=place)
            assert await told(other, place) == (came if place == "den" else [(ONLINE, "ann")])
            leave(one, place=place)
            assert len(await told(one, place)) == (2 if place == "den" else 1)
        cluster.wall.now += 60.0
        assert await told(other) == came
        for place in ("den", "/ann"):
            leave(other, place=place)
        await read(other)
        cluster.wall.now += 60.0
        assert await told(one) == [*came, (LEFT, "ann"), (VACATED, None)]
        assert await told(one, "/ann") == [(ONLINE, "ann"), (OFFLINE, "ann")]
    # Nothing but the queue and the numbers of its entries is left.
    names = {
        key.decode().removeprefix(f"{cluster.prefix}:")
        for key in shared_redis.ask("KEYS", f"{cluster.prefix}:*")
    }
    assert {name for name in names if name.startswith(("book:", "outbox:"))} == {
        "book:id",
        "outbox:head:q",
        "outbox:waiting:q",
    }


async def test_the_users_of_a_dead_node_leave_unless_they_return(shared_redis: RedisServer) -> None:
    cluster = Cluster(shared_redis.url)
    users = ["ann", "bob", "cyd"]
    came = [(OCCUPIED, None), *((JOINED, user) for user in users)]
    async with cluster.open_node() as living, trio.open_nursery() as nursery:
        dying, kill = await nursery.start(cluster.die)
        for user in users:
            come(dying, user)
            come(dying, user, user_place(user))
        assert await told(dying) == came
        come(living, "bob")
        await read(living)
        kill()

        def users_of_den() -> set[bytes]:
            return set(shared_redis.ask("HKEYS", f"{cluster.prefix}:book:at:den"))

        async def is_removed() -> bool:
            return users_of_den() == {b"bob"} and not shared_redis.ask(
                "EXISTS", f"{cluster.prefix}:book:at:/ann"
            )

        await wait_until(is_removed)
        assert await told(living) == came
        cluster.wall.now += 4.9
        come(living, "ann")
        await read(living)
        cluster.wall.now += 60.0
        assert await told(living) == [*came, (LEFT, "cyd")]
        assert await told(living, "/cyd") == [(ONLINE, "cyd"), (OFFLINE, "cyd")]


async def test_all_nodes_may_die_before_one_removes_their_users(shared_redis: RedisServer) -> None:
    cluster = Cluster(shared_redis.url)
    async with trio.open_nursery() as nursery:
        for user in ("ann", "bob"):
            dying, kill = await nursery.start(cluster.die)
            come(dying, user)
            await read(dying)
            kill()
    # As after an hour.
    shared_redis.ask("DEL", f"{cluster.prefix}:alive")
    async with cluster.open_node() as late:

        async def have_left() -> bool:
            cluster.wall.now += 1.0
            return len(await told(late)) == 6

        await wait_until(have_left)
        kinds = [kind for kind, _ in await told(late)]
        assert kinds == [OCCUPIED, JOINED, JOINED, LEFT, LEFT, VACATED]


async def test_users_who_are_there_after_a_loss_of_the_book_did_not_come(redis: RedisServer) -> None:
    cluster = Cluster(redis.url)
    async with cluster.open_node() as engine:
        for user in ("ann", "bob", "cyd"):
            come(engine, user)
        first = await read(engine)
        redis.kill()
        await wait_trouble(engine, "cannot connect")
        leave(engine, "bob")
        come(engine, "dee")
        redis.start()
        await wait_ready(engine)
        await engine.append("den", [draft(1)], KEEP)
        assert sorted(await told(engine)) == sorted([(JOINED, "dee"), (Kind.MESSAGE, None)])
        cluster.wall.now += 60.0
        # It left while Redis was away, and came before the loss.
        assert (LEFT, "bob") in await told(engine)
        entries = await read(engine)
        assert len(entries) == 3
        # The numbers begin anew, so that the epoch is another one.
        assert entries[0].number == 1
        assert {entry.epoch for entry in entries}.isdisjoint({entry.epoch for entry in first})
        for user in ("ann", "cyd", "dee"):
            leave(engine, user)
        await read(engine)
        cluster.wall.now += 60.0
        left = {(LEFT, user) for user in ("ann", "bob", "cyd", "dee")}
        assert {each for each in await told(engine) if each[0] is LEFT} == left
        assert (await told(engine))[-1] == (VACATED, None)


async def test_a_server_restarted_with_its_data_has_the_queue_and_the_book(tmp_path: Path) -> None:
    with run_redis(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as redis:
        cluster = Cluster(redis.url)
        async with cluster.open_node() as engine:
            come(engine)
            await read(engine)
            await engine.append("den", [draft(1)], KEEP)
            before = await read(engine)
            redis.kill()
            await wait_trouble(engine, "cannot connect")
            redis.start()
            await wait_ready(engine)
            assert await read(engine) == before
            leave(engine)
            await engine.append("den", [draft(2)], KEEP)
            assert [each.number for each in await read(engine)] == [1, 2, 3, 4]
            cluster.wall.now += 60.0
            kinds = [each.kind for each in await read(engine)]
            assert kinds == [OCCUPIED, JOINED, Kind.MESSAGE, Kind.MESSAGE, LEFT, VACATED]


async def test_what_is_noted_twice_as_an_answer_was_lost_is_written_once(shared_redis: RedisServer) -> None:
    async with open_proxy(shared_redis.port) as proxy:
        cluster = Cluster(proxy.url)
        async with cluster.open_node() as engine:
            for number in range(3):
                come(engine, f"u{number}")
                # The answer to it may be the one that is cut, or the probe's.
                for link in proxy.links():
                    link.bytes_until_cut = 1 + 5 * number
                await wait_until_written(engine)
            joined = [user for kind, user in await when_served(lambda: told(engine)) if kind is JOINED]
            assert joined == [f"u{number}" for number in range(3)]


async def wait_until_written(engine: RedisEngine) -> None:
    assert engine.attendance is not None
    await engine.attendance.wait_written()


@pytest.mark.parametrize("key", ["waiting:q", "head:q"])
async def test_a_key_of_another_program_refuses_the_event_with_its_entry(
    shared_redis: RedisServer, key: str
) -> None:
    cluster = Cluster(shared_redis.url)
    async with cluster.open_node() as engine:
        await engine.append("den", [draft(1)], KEEP)
        name = f"{cluster.prefix}:outbox:{key}"
        shared_redis.ask("RENAME", name, f"{name}:kept")
        shared_redis.ask("SET", name, "other")
        with pytest.raises(EngineUnavailableError, match="WRONGTYPE"):
            await engine.append("den", [draft(2)], KEEP)
        assert (await engine.position("den")).offset == 1
        shared_redis.ask("RENAME", f"{name}:kept", name)
        await engine.append("den", [draft(3)], KEEP)
        contents = [json.loads(bytes(entry.fields))["content"]["n"] for entry in await read(engine)]
        assert contents == [1, 3]


async def test_each_server_is_a_partition_with_the_rooms_and_users_of_its_own(
    shared_redis: RedisServer, redis: RedisServer
) -> None:
    cluster = Cluster(f"redis://127.0.0.1:{shared_redis.port},127.0.0.1:{redis.port}")
    rooms = [f"room{number}" for number in range(20)]
    async with cluster.open_node() as engine:
        assert engine.outbox is not None
        assert engine.attendance is not None
        for room in rooms:
            await engine.append(room, [draft(1)], KEEP)
            come(engine, "ann", room)
            come(engine, room, user_place(room))
        await engine.attendance.wait_written()
        of_partition = []
        for partition in engine.outbox.partitions:
            entries = await engine.outbox.read(partition, "q", limit=1000)
            assert entries
            of_partition.append({each.room or each.user for each in entries})
            fence = await engine.outbox.lease(partition, "a", 60.0)
            assert fence is not None
            await engine.outbox.put_aside(partition, "q", [each.number for each in entries], "no", fence)
            assert await engine.outbox.repeat(partition, "q") == len(entries)
        one, other = of_partition
        assert not one & other
        assert one | other == set(rooms)
        assert sum(each.waiting for each in await engine.outbox.statistics()) == 20 * 4


async def test_a_visit_that_ends_while_it_is_noted_and_a_lease_is_renewed_leaves_nothing_to_note(
    shared_redis: RedisServer,
) -> None:
    async with Cluster(shared_redis.url).open_node() as engine:
        assert engine.attendance is not None
        [writer] = engine.attendance._writers
        come(engine, "ann")
        engine.attendance.left("den", "ann")
        # The change is on its way.
        await trio.testing.wait_all_tasks_blocked()
        writer.lease_renewed(had_none=True)
        await engine.attendance.wait_written()
        come(engine, "bob")
        assert (JOINED, "bob") in await told(engine)
