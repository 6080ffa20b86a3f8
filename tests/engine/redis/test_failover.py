"""A master that was demoted: a new connection leads to the new master, and nobody has to wait for a restart."""

from collections.abc import Iterator

import pytest
import trio

from broker.engine.redis.engine import RedisEngine
from broker.errors import EngineUnavailableError
from broker.model import Position
from tests.engine.redis.opened import KEEP, Ear, draft, opened_impatient, wait_ready, wait_until, when_served
from tests.engine.redis.strangers import Switch, answer
from tests.support.redis import RedisServer, run_redis
from tests.support.redis_proxy import open_proxy


@pytest.fixture
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with run_redis(tmp_path_factory.mktemp("second")) as server:
        yield server


async def fail_over(old: RedisServer, new: RedisServer) -> None:
    """Let the second server follow the first and take its place; connections to the first stay open."""
    new.ask("REPLICAOF", "127.0.0.1", old.port)

    async def has_copied() -> bool:
        return new.ask("ROLE")[3] == b"connected" and new.ask("ROLE")[4] == old.ask("ROLE")[1]

    await wait_until(has_copied)
    new.ask("REPLICAOF", "NO", "ONE")
    old.ask("REPLICAOF", "127.0.0.1", new.port)


async def test_a_demoted_server_is_left_for_the_new_master(redis: RedisServer, second: RedisServer) -> None:
    ear = Ear()
    async with open_proxy(redis.port) as proxy, opened_impatient(proxy.url) as engine:
        await wait_ready(engine)
        await engine.subscribe("den", ear)
        await engine.append("den", [draft(1)], KEEP)
        before = await engine.position("den")
        await fail_over(redis, second)
        assert len(proxy.links()) == 1, "its connection is still there"
        proxy.server_port = second.port
        behind = ear.behind
        await when_served(lambda: engine.append("den", [draft(2, "k")], KEEP))
        assert second.ask("ROLE")[0] == b"master"
        assert await engine.position("den") == Position(before.epoch, 2)
        # The feed has followed, and says that it was away.
        await ear.wait(lambda: ear.behind > behind)
        await engine.append("den", [draft(3)], KEEP)
        await ear.wait(lambda: 3 in ear.offsets())
        await wait_ready(engine)


async def test_nobodys_request_is_lost_while_the_server_is_left(
    redis: RedisServer, second: RedisServer
) -> None:
    """Reads go to the old server until there is another one."""
    async with open_proxy(redis.port) as proxy, opened_impatient(proxy.url) as engine:
        await wait_ready(engine)
        await engine.append("den", [draft(1)], KEEP)
        await fail_over(redis, second)
        is_over = trio.Event()

        async def read() -> None:
            while not is_over.is_set():
                assert (await engine.read("den")).position.offset >= 1

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(read)
            for _ in range(10):
                with pytest.raises(EngineUnavailableError, match="READONLY"):
                    await engine.append("den", [draft(2)], KEEP)
            proxy.server_port = second.port
            await when_served(lambda: engine.append("den", [draft(2)], KEEP))
            is_over.set()


REFUSALS = [
    "READONLY You can't write against a read only replica.",
    "ERR Error running script (call to f_1): @user_script:14: @user_script: 14: -READONLY You can't write",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "LOADING Redis is loading the dataset in memory",
    "NOAUTH Authentication required.",
    "CLUSTERDOWN The cluster is down",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "MOVED 3999 127.0.0.1:6381",
    "NOREPLICAS Not enough good replicas to write.",
    "ERR no master upstream",
    "ERR unknown command 'EVALSHA'",
]


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_whatever_says_not_here_any_more_is_left(redis: RedisServer, refusal: str) -> None:
    """The first connections lead to one that refuses everything, those after it to a server."""
    async with open_proxy(redis.port, Switch) as switch:

        async def refuse(stream: trio.SocketStream) -> None:
            await answer(stream, f"-{refusal}\r\n".encode())

        switch.turn(refuse)
        async with opened_impatient(switch.url) as engine:
            with pytest.raises(EngineUnavailableError, match="redis refuses"):
                await position(engine)
            switch.stranger = None  # the open connections stay
            assert (await when_served(lambda: position(engine))).offset == 0
            await wait_ready(engine)


async def position(engine: RedisEngine) -> Position:
    return await engine.position("den")


@pytest.mark.parametrize(
    "refusal",
    [
        "OOM command not allowed",
        "WRONGTYPE Operation against a key",
        "ERR user_script:3: attempt to index nil",
        "MISCONF",
    ],
)
async def test_what_the_same_server_would_say_again_is_no_reason_to_leave(refusal: str) -> None:
    async with open_proxy(0, Switch) as switch:

        async def refuse(stream: trio.SocketStream) -> None:
            await answer(stream, f"-{refusal}\r\n".encode())

        switch.turn(refuse)
        async with opened_impatient(switch.url) as engine:
            for _ in range(20):
                with pytest.raises(EngineUnavailableError, match="redis refuses"):
                    await position(engine)
            assert engine._servers[0].link.statistics().requests >= 20
            assert engine._servers[0].link._moves == 0
