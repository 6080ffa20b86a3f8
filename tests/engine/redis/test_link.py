"""Requests of many tasks on one connection."""

import attrs
import pytest
import trio
import trio.testing

from broker.engine.base import Receipt
from broker.errors import EngineUnavailableError
from broker.model import Position
from broker.wakeup import Wakeup
from tests.engine.redis.opened import KEEP, draft, opened, opened_impatient, wait_ready
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
    async with opened_impatient(redis.url, pending_bytes=10_000) as engine:
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


async def test_an_append_that_is_only_begun_keeps_its_place_and_is_answered_once(redis: RedisServer) -> None:
    async with opened(redis.url) as engine:
        await wait_ready(engine)
        redis.ask("SCRIPT", "FLUSH")
        results: list[Receipt | EngineUnavailableError] = []
        done = Wakeup()

        def on_done(result: Receipt | EngineUnavailableError) -> None:
            results.append(result)
            done.set()

        assert engine.append_soon("den", draft(1), KEEP, on_done)
        assert not results
        await done.wait()
        assert engine.append_soon("den", draft(2), KEEP, on_done)
        [third] = await engine.append("den", [draft(3)], KEEP)
        assert third.position is not None
        assert third.position.offset == 3
        receipts = [result for result in results if isinstance(result, Receipt)]
        assert [receipt.event.offset for receipt in receipts if receipt.event] == [1, 2]
        assert engine.statistics().messages == 3
        run = await engine.read("den")
        assert [event.content for event in run.events] == [draft(number).content for number in (1, 2, 3)]


async def test_an_append_that_is_only_begun_hears_that_the_connection_is_lost(redis: RedisServer) -> None:
    async with opened_impatient(redis.url, pending_bytes=10_000) as engine:
        await wait_ready(engine)
        redis.freeze()
        results: list[Receipt | EngineUnavailableError] = []
        done = Wakeup()

        def on_done(result: Receipt | EngineUnavailableError) -> None:
            results.append(result)
            # What would be begun now has no connection.
            assert not engine.append_soon("den", draft(3), KEEP, on_done)
            done.set()

        assert engine.append_soon("den", draft(1, size=9000), KEEP, on_done)
        # It would have to wait for space.
        assert not engine.append_soon("den", draft(2, size=9000), KEEP, on_done)
        await done.wait()
        redis.thaw()
        [error] = results
        assert isinstance(error, EngineUnavailableError)


async def test_the_expiry_is_set_again_once_some_of_its_slack_is_spent(redis: RedisServer) -> None:
    async with opened(redis.url) as engine:
        keys = engine._keyspace.room("den")

        async def seconds_left_after_append(number: int) -> set[int]:
            for key in (keys.meta, keys.stream):
                redis.ask("EXPIRE", key, 1000)
            await engine.append("den", [draft(number)], KEEP)
            return {redis.ask("TTL", key) // 1000 for key in (keys.meta, keys.stream)}

        await engine.append("den", [draft(1)], KEEP)
        assert {redis.ask("TTL", key) // 1000 for key in (keys.meta, keys.stream)} == {86}
        assert await seconds_left_after_append(2) <= {0, 1}
        redis.ask("HINCRBY", keys.meta, "expires_ms", -15_000)
        assert await seconds_left_after_append(3) == {86}
        # A node of an earlier version keeps neither of these.
        redis.ask("HDEL", keys.meta, "expires_ms", "oldest_ms")
        assert await seconds_left_after_append(4) == {86}
        # The stream begins anew.
        await engine.append("den", [draft(5)], attrs.evolve(KEEP, messages=0))
        assert redis.ask("EXISTS", keys.stream) == 0
        await engine.append("den", [draft(6)], KEEP)
        assert redis.ask("TTL", keys.stream) // 1000 == 86
        assert (await engine.read("den")).first_held == 6


async def test_old_events_are_trimmed_whatever_the_hash_says_of_the_oldest(redis: RedisServer) -> None:
    async with opened(redis.url) as engine:
        keys = engine._keyspace.room("den")
        for number in range(1, 4):
            await engine.append("den", [draft(number)], KEEP)
        brief = attrs.evolve(KEEP, age_seconds=0.05)
        for fields in ((), ("oldest_ms",), ("oldest_ms", "expires_ms")):
            if fields:
                redis.ask("HDEL", keys.meta, *fields)
            await trio.sleep(0.06)  # the nodes' clock is real
            [receipt] = await engine.append("den", [draft(4)], brief)
            assert receipt.position is not None
            run = await engine.read("den")
            assert run.first_held == receipt.position.offset
            assert redis.ask("XLEN", keys.stream) == 1
