"""Faults of servers and links: each is reported, no false event is delivered, and the node recovers by itself."""

import time
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from broker.engine.redis.engine import RedisEngine
from broker.errors import ConfigurationError, EngineTrouble, EngineUnavailableError
from broker.model import Position
from tests.engine.redis.opened import (
    KEEP,
    TIMEOUT_SECONDS,
    Ear,
    draft,
    opened_impatient,
    trouble,
    wait_ready,
    wait_trouble,
    when_served,
)
from tests.support.redis import RedisServer, free_port, run_redis
from tests.support.redis_proxy import open_proxy


async def offsets(engine: RedisEngine) -> list[int | None]:
    return [event.offset for event in (await engine.read("den")).events]


async def fill(engine: RedisEngine) -> Position:
    await wait_ready(engine)
    await engine.append("den", [draft(1), draft(2)], KEEP)
    return await engine.position("den")


async def test_a_server_killed_and_restarted_without_its_data_begins_new_epochs(redis: RedisServer) -> None:
    async with opened_impatient(redis.url) as engine:
        before = await fill(engine)
        redis.kill()
        reason = await wait_trouble(engine, "connection refused")
        assert "requests: " in reason
        assert "feed: " in reason
        with pytest.raises(EngineUnavailableError) as caught:
            await engine.wait_ready()
        assert caught.value.since is not None
        with pytest.raises(EngineUnavailableError) as caught:
            await engine.append("den", [draft(3)], KEEP)
        assert caught.value.retry_after_ms > 0
        with pytest.raises(EngineUnavailableError):
            await engine.read("den")
        redis.start()
        await wait_ready(engine)
        run = await engine.read("den")
        assert run.position.epoch != before.epoch
        assert (run.position.offset, run.events) == (0, ())
        assert not run.can_continue(before)


async def test_a_server_killed_and_restarted_with_its_data_goes_on(tmp_path: Path) -> None:
    with run_redis(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as redis:
        async with opened_impatient(redis.url) as engine:
            before = await fill(engine)
            [first] = await engine.append("den", [draft(3, "k")], KEEP)
            redis.kill()
            await wait_trouble(engine, "cannot connect")
            redis.start()
            await wait_ready(engine)
            assert await engine.append("den", [draft(3, "k")], KEEP) == [type(first)(first.position, None)]
            await engine.append("den", [draft(4)], KEEP)
            run = await engine.read("den")
            assert run.position == Position(before.epoch, 4)
            assert [event.offset for event in run.events] == [1, 2, 3, 4]


async def test_everyone_who_waits_hears_at_once_that_the_connection_is_lost(redis: RedisServer) -> None:
    async with opened_impatient(redis.url) as engine:
        await fill(engine)
        redis.freeze()
        failures: list[EngineUnavailableError] = []

        async def append(number: int) -> None:
            with pytest.raises(EngineUnavailableError) as caught:
                await engine.append(f"room {number}", [draft(number)], KEEP)
            failures.append(caught.value)

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(append, number)
            await trio.testing.wait_all_tasks_blocked()
            redis.kill()
        assert len(failures) == 50


async def test_a_server_frozen_for_longer_than_the_timeout_is_noticed_and_heals(redis: RedisServer) -> None:
    async with opened_impatient(redis.url) as engine:
        before = await fill(engine)
        redis.freeze()
        began = trio.current_time()
        with pytest.raises(EngineUnavailableError, match="no answer within"):
            await engine.append("den", [draft(3, "k")], KEEP)
        assert trio.current_time() - began >= TIMEOUT_SECONDS
        assert "no answer within" in (await trouble(engine) or "")
        redis.thaw()
        await wait_ready(engine)
        # What was sent before is perhaps stored by now; asked again, it is there once.
        await engine.append("den", [draft(3, "k")], KEEP)
        run = await engine.read("den")
        assert run.position == Position(before.epoch, 3)
        assert [event.content for event in run.events] == [draft(n).content for n in (1, 2, 3)]


async def test_a_reply_cut_in_the_middle_is_no_reply(redis: RedisServer) -> None:
    async with open_proxy(redis.port) as proxy, opened_impatient(proxy.url) as engine:
        before = await fill(engine)
        for size in range(1, 20, 3):
            [link] = proxy.links()
            link.bytes_until_cut = size
            # Its own reply may be the one that is cut, or the probe's.
            receipts = await when_served(lambda: engine.append("den", [draft(3, "k")], KEEP))
            assert receipts[0].position == Position(before.epoch, 3)
        assert await offsets(engine) == [1, 2, 3]


async def test_a_feed_that_is_cut_alone_comes_back_and_says_that_it_was_away(redis: RedisServer) -> None:
    ear = Ear()
    async with open_proxy(redis.port) as proxy, opened_impatient(proxy.url) as engine:
        await fill(engine)
        await engine.subscribe("den", ear)
        proxy.is_closed_to_feeds = True
        proxy.cut(proxy.feeds())
        await wait_trouble(engine, "feed: ")
        # Whoever has subscribed is still served, a newcomer is refused.
        await engine.append("den", [draft(3)], KEEP)
        with pytest.raises(EngineUnavailableError):
            await engine.subscribe("attic", Ear())
        assert (ear.offsets(), ear.behind) == ([], 0)
        proxy.is_closed_to_feeds = False
        await ear.wait(lambda: ear.behind > 0)
        await engine.append("den", [draft(4)], KEEP)
        await ear.wait(lambda: ear.offsets() == [4])
        await wait_ready(engine)


async def test_a_feed_that_has_died_without_a_word_is_found_out_and_made_again(redis: RedisServer) -> None:
    ear = Ear()
    async with open_proxy(redis.port) as proxy, opened_impatient(proxy.url) as engine:
        await fill(engine)
        await engine.subscribe("den", ear)
        for route in proxy.feeds():
            route.is_mute = True
        await engine.append("den", [draft(3)], KEEP)
        reason = await wait_trouble(engine, "did not come back")
        assert "deliveries: " in reason
        await ear.wait(lambda: ear.behind > 0)
        await engine.append("den", [draft(4)], KEEP)
        await ear.wait(lambda: ear.offsets() == [4])
        await wait_ready(engine)


async def test_a_server_out_of_memory_stores_nothing_and_can_be_read(redis: RedisServer) -> None:
    async with opened_impatient(redis.url) as engine:
        before = await fill(engine)
        redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1000")
        with pytest.raises(EngineUnavailableError, match="OOM"):
            await engine.append("den", [draft(3), draft(4)], KEEP)
        with pytest.raises(EngineUnavailableError, match="OOM"):
            await engine.position("a new room")
        assert await engine.position("den") == before
        assert await offsets(engine) == [1, 2]
        await engine.append("den", [draft(5, ephemeral=True)], KEEP)
        assert "writes: redis refuses: OOM" in await wait_trouble(engine, "OOM")
        redis.ask("CONFIG", "SET", "maxmemory", "0")
        await wait_ready(engine)
        await engine.append("den", [draft(3)], KEEP)
        assert await offsets(engine) == [1, 2, 3]


async def test_a_read_only_replica_stores_nothing_and_can_be_read(redis: RedisServer) -> None:
    async with opened_impatient(redis.url) as engine:
        before = await fill(engine)
        redis.ask("REPLICAOF", "127.0.0.1", free_port())
        with pytest.raises(EngineUnavailableError, match="READONLY"):
            await engine.append("den", [draft(3)], KEEP)
        assert await engine.position("den") == before
        assert await offsets(engine) == [1, 2]
        assert "writes: redis refuses: READONLY" in await wait_trouble(engine, "READONLY")
        redis.ask("REPLICAOF", "NO", "ONE")
        await wait_ready(engine)
        await engine.append("den", [draft(3)], KEEP)
        assert await offsets(engine) == [1, 2, 3]


async def test_a_slow_server_is_waited_for(redis: RedisServer) -> None:
    async with open_proxy(redis.port) as proxy, opened_impatient(proxy.url) as engine:
        before = await fill(engine)
        proxy.latency_seconds = TIMEOUT_SECONDS * 0.6
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(engine.append, "den", [draft(number)], KEEP)
        assert await engine.position("den") == Position(before.epoch, 7)
        assert await trouble(engine) is None


async def test_a_server_that_cannot_be_reached_at_first_is_waited_for(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    async with opened_impatient(redis.url) as engine:
        assert "connection refused" in (await trouble(engine) or "")
        with pytest.raises(EngineUnavailableError, match="connection refused"):
            await engine.position("den")
        redis.start()
        try:
            await wait_ready(engine)
            assert (await engine.position("den")).offset == 0
        finally:
            redis.kill()


@pytest.mark.parametrize("login", ["", ":wrong@", "nobody:right-one@"])
async def test_a_refused_login_stops_the_start(tmp_path: Path, login: str) -> None:
    with run_redis(tmp_path, password="right-one") as redis:
        with pytest.raises(ConfigurationError, match="refuses the login") as caught:
            async with opened_impatient(redis.url.replace("//", f"//{login}")):
                pytest.fail("opened")
        assert "wrong" not in str(caught.value).lower().replace("wrongpass", "")
        assert "right-one" not in str(caught.value)
        async with opened_impatient(redis.url.replace("//", "//:right-one@")) as engine:
            await wait_ready(engine)


async def test_a_database_that_is_not_there_stops_the_start(redis: RedisServer) -> None:
    with pytest.raises(ConfigurationError, match="refuses the login or the database"):
        async with opened_impatient(redis.url + "/99"):
            pytest.fail("opened")


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (b"*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n6.0.9\r\n", "version 6.0.9"),
        (b"-ERR unknown command `HELLO`, with args beginning with: `2`, \r\n", "without HELLO"),
    ],
)
async def test_a_server_that_is_too_old_stops_the_start(reply: bytes, told: str) -> None:
    async def greet(stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        await stream.send_all(reply)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, greet, 0)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"{told}.*Redis 6\.2 or later"):
            async with opened_impatient(f"redis://localhost:{port}"):
                pytest.fail("opened")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("lost", ["room", "events"])
async def test_half_of_a_room_is_no_room(redis: RedisServer, lost: str) -> None:
    async with opened_impatient(redis.url) as engine:
        before = await fill(engine)
        [key] = [key for key in redis.ask("KEYS", "*{den}*") if key.endswith(lost.encode())]
        redis.ask("DEL", key)
        [receipt] = await engine.append("den", [draft(3)], KEEP)
        run = await engine.read("den")
        assert run.position == receipt.position
        assert run.position.offset == 1
        assert run.position.epoch != before.epoch
        assert [event.content for event in run.events] == [draft(3).content]


async def test_a_room_that_lost_its_newest_events_is_no_room(redis: RedisServer) -> None:
    async with opened_impatient(redis.url) as engine:
        before = await fill(engine)
        [key] = [key for key in redis.ask("KEYS", "*{den}*") if key.endswith(b"events")]
        redis.ask("XDEL", key, "2-0")
        assert (await engine.position("den")).epoch != before.epoch


async def test_scripts_are_sent_again_to_a_server_that_forgot_them(redis: RedisServer) -> None:
    async with opened_impatient(redis.url) as engine:
        await fill(engine)
        redis.ask("SCRIPT", "FLUSH")
        await engine.append("den", [draft(3)], KEEP)
        assert await offsets(engine) == [1, 2, 3]


FOREIGN = {
    "string": ("SET", "x"),
    "list": ("LPUSH", "x"),
    "hash": ("HSET", "x", "y"),
    "sorted set": ("ZADD", 1, "x"),
}


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        *(("alive", kind) for kind in FOREIGN if kind != "sorted set"),
        *(("rooms", kind) for kind in FOREIGN if kind != "sorted set"),
        *(("store_id", kind) for kind in FOREIGN if kind != "string"),
    ],
)
async def test_a_shared_key_that_another_program_has_overwritten_is_a_trouble(
    redis: RedisServer, key: str, kind: str
) -> None:
    """Every node needs these keys for every room, so no node is ready."""
    async with opened_impatient(redis.url) as engine:
        await fill(engine)
        name, (command, *values) = getattr(engine._keyspace, key), FOREIGN[kind]
        # At once, or a heartbeat in between would make the key again.
        redis.ask(
            "EVAL", "redis.call('DEL', KEYS[1]) redis.call(unpack(ARGV))", 1, name, command, name, *values
        )
        await wait_trouble(engine, "WRONGTYPE")
        with pytest.raises(EngineUnavailableError) as caught:
            await engine.wait_ready()
        assert caught.value.trouble == EngineTrouble.REFUSED
        redis.ask("DEL", name)
        await wait_ready(engine)


@pytest.mark.parametrize("key", ["meta", "stream"])
async def test_a_key_of_one_room_that_another_program_has_overwritten_is_that_rooms_trouble(
    redis: RedisServer, key: str
) -> None:
    """It is refused and left as it is; the nodes are ready, and serve all other rooms."""
    async with opened_impatient(redis.url) as engine:
        await fill(engine)
        name = getattr(engine._keyspace.room("den"), key)
        redis.ask("DEL", name)
        redis.ask("SET", name, "precious")
        for call in (
            lambda: engine.append("den", [draft(3)], KEEP),
            lambda: engine.read("den"),
            lambda: engine.position("den"),
        ):
            with pytest.raises(EngineUnavailableError, match="WRONGTYPE") as caught:
                await call()
            assert caught.value.trouble == EngineTrouble.REFUSED
        assert redis.ask("GET", name) == b"precious"
        await engine.append("attic", [draft(1)], KEEP)
        assert await trouble(engine) is None


async def test_an_entry_with_fields_of_a_later_version_is_read_and_trimmed(redis: RedisServer) -> None:
    """Nodes of two versions share one Redis while servers are replaced one by one."""
    async with opened_impatient(redis.url) as engine:
        before = await fill(engine)
        keys = engine._keyspace.room("den")
        redis.ask(
            "XADD", keys.stream, "3-0", "t", int(time.time() * 1000), "c", '{"n":3}', "m", "x", "tags", "y"
        )
        redis.ask("HSET", keys.meta, "offset", 3)
        redis.ask("HINCRBY", keys.meta, "bytes", 7)
        run = await engine.read("den")
        assert run.position == Position(before.epoch, 3)
        assert run.events[-1].content == b'{"n":3}'
        await engine.append("den", [draft(4)], attrs.evolve(KEEP, messages=1))
        run = await engine.read("den")
        assert (run.first_held, [event.offset for event in run.events]) == (4, [4])
        assert int(redis.ask("HGET", keys.meta, "bytes")) == len(draft(4).content)
