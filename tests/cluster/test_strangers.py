"""A node whose Redis is suddenly something else: it stays up, says so, and serves when the Redis is back."""

from secrets import token_hex

import pytest
import trio

from tests.cluster.test_servers import REDIS, wait_ready
from tests.engine.redis.opened import wait_until
from tests.engine.redis.strangers import STRANGERS, Switch
from tests.support.redis import RedisServer
from tests.support.redis_proxy import open_proxy
from tests.support.served import Served


async def post_until_stored(served: Served, key: str) -> int:
    """Publish until it is stored; return its offset. On a busy machine a Redis that is well is late at times."""
    while True:
        response = await served.http.post(
            "/api/rooms/den/messages", json={"type": "order"}, headers={"Idempotency-Key": key}
        )
        if response.status_code != 503:
            return int(response.json()["offset"])
        await trio.sleep(0.01)


@pytest.mark.parametrize("name", STRANGERS)
async def test_a_node_survives_any_program_on_the_port_of_redis(
    shared_redis: RedisServer, serve, name: str
) -> None:
    async with open_proxy(shared_redis.port, Switch) as switch:
        switch.turn(STRANGERS[name])
        redis = {**REDIS, "prefix": token_hex(8)}
        async with serve(server={"engine": switch.url}, redis=redis) as served:

            async def has_met_a_stranger() -> bool:
                return switch.strangers_connections >= 2

            for offset in (1, 2):
                [reason] = (await wait_ready(served, 503))["reasons"]
                assert reason.startswith("engine: ")
                await wait_until(has_met_a_stranger)
                refused = await served.http.post("/api/rooms/den/messages", json={"type": "order"})
                assert refused.status_code == 503
                assert (await served.http.get("/health")).status_code == 200
                switch.turn(None)
                await wait_ready(served, 200)
                assert await post_until_stored(served, str(offset)) == offset
                switch.strangers_connections = 0
                switch.turn(STRANGERS[name])
