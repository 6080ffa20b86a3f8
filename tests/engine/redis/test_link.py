"""Requests of many tasks on one connection."""

import pytest
import trio
import trio.testing

from broker.errors import EngineUnavailableError
from broker.model import Position
from tests.engine.redis.opened import KEEP, draft, opened, wait_ready
from tests.support.redis import RedisServer
from tests.support.redis_proxy import open_proxy


async def test_what_many_ask_at_once_is_one_write(redis: RedisServer) -> None:
    async with opened(redis.url, probe_seconds=3600.0) as engine:
        await wait_ready(engine)
        link = engine._servers[0].link
        before = link.statistics()
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(engine.position, f"room {number}")
        after = link.statistics()
        assert after.requests - before.requests >= 200
        # The scripts have to be sent first, which is asked again.
        assert after.writes - before.writes <= 10
        assert (after.pending, after.pending_bytes) == (0, 0)


async def test_one_who_is_cancelled_takes_nobody_elses_reply(redis: RedisServer) -> None:
    async with opened(redis.url) as engine:
        await engine.append("den", [draft(1)], KEEP)
        den = await engine.position("den")
        attic = await engine.position("attic")
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(engine.append, "den", [draft(2)], KEEP)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        assert await engine.position("attic") == attic
        assert await engine.position("den") in [Position(den.epoch, offset) for offset in range(1, 12)]


async def test_no_more_waits_for_replies_than_may(redis: RedisServer) -> None:
    most = 200_000
    async with open_proxy(redis.port) as proxy, opened(proxy.url, pending_bytes=most) as engine:
        await wait_ready(engine)
        seen: list[int] = []

        async def append(number: int) -> None:
            await engine.append(f"room {number}", [draft(number, size=50_000)], KEEP)
            seen.append(engine._servers[0].link.statistics().pending_bytes)

        proxy.latency_seconds = 0.02
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(append, number)
            await trio.testing.wait_all_tasks_blocked()
            assert 0 < engine._servers[0].link.statistics().pending_bytes <= most
        assert len(seen) == 40
        assert max(seen) <= most
        # One that is bigger than may wait goes alone.
        await engine.append("den", [draft(1, size=2 * most)], KEEP)
        assert (await engine.position("den")).offset == 1


async def test_those_who_wait_for_space_hear_that_the_connection_is_lost(redis: RedisServer) -> None:
    async with opened(redis.url, pending_bytes=10_000) as engine:
        await wait_ready(engine)
        redis.freeze()
        failures: list[str] = []

        async def append() -> None:
            with pytest.raises(EngineUnavailableError) as caught:
                await engine.append("den", [draft(1, size=9000)], KEEP)
            failures.append(str(caught.value))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(append)
        redis.thaw()
        assert len(failures) == 5


async def test_nothing_of_a_database_or_prefix_is_seen_in_another(redis: RedisServer) -> None:
    async with (
        opened(redis.url, prefix="a") as first,
        opened(redis.url, prefix="b") as second,
        opened(f"{redis.url}/1", prefix="a") as third,
    ):
        await first.append("den", [draft(1)], KEEP)
        for other in (second, third):
            assert (await other.position("den")).offset == 0
    assert all(key.startswith((b"a:", b"b:")) for key in redis.ask("KEYS", "*"))


@pytest.mark.parametrize("room", ["}", "{", "{}a", "a}b{c", "%7D", "ä🎭", "a b"])
async def test_any_name_is_a_room_of_its_own(redis: RedisServer, room: str) -> None:
    async with opened(redis.url) as engine:
        await engine.append(room, [draft(1, "k")], KEEP)
        await engine.append("den", [draft(2, "k")], KEEP)
        assert (await engine.position(room)).offset == 1
        keys = [key for key in redis.ask("KEYS", "*") if b"{den}" not in key and b"{" in key]
        tags = {key[key.index(b"{") + 1 : key.index(b"}")] for key in keys}
        assert (len(keys), len(tags)) == (3, 1)
        assert b"" not in tags


async def test_keys_expire_once_nothing_in_them_counts(redis: RedisServer) -> None:
    async with opened(redis.url) as engine:
        await engine.append("den", [draft(1, "k")], KEEP)
        await engine.position("attic")
    seconds = {key.rsplit(b":", 1)[-1]: redis.ask("TTL", key) for key in redis.ask("KEYS", "*{den}*")}
    assert seconds.keys() == {b"room", b"events", b"k"}
    assert 86_400 <= seconds[b"room"] == seconds[b"events"] <= 86_460
    assert 300 <= seconds[b"k"] <= 360
    [attic] = redis.ask("KEYS", "*{attic}*")
    assert 3590 <= redis.ask("TTL", attic) <= 3600
