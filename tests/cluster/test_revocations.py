"""Tokens are taken back on all nodes, also on one that did not hear of it, and by one that starts later."""

import time
from typing import TYPE_CHECKING

import jwt

from tests.cluster.test_servers import REDIS, wait_ready
from tests.support.redis import RedisServer
from tests.support.secrets import SECRET

if TYPE_CHECKING:
    from tests.support.served import Serve

REVOKED = (4001, "token was revoked")


def token(user: str, jti: str) -> str:
    return jwt.encode({"sub": user, "jti": jti, "exp": time.time() + 600}, SECRET)


async def test_it_holds_on_all_nodes(redis: RedisServer, serve: "Serve") -> None:
    here = {"server": {"engine": redis.url}, "redis": REDIS}
    async with serve(**here) as east, serve(**here) as west:
        await wait_ready(east, 200)
        await wait_ready(west, 200)
        async with (
            east.dial(f"/ws?token={token('ann', '1')}") as ann,
            west.dial(f"/ws?token={token('ann', '2')}") as there,
            west.dial(f"/ws?token={token('bob', '3')}") as bob,
            west.dial(f"/ws?token={token('cid', '4')}") as cid,
        ):
            for client in (ann, there, bob, cid):
                await client.ask("pong", type="ping")
            answer = (await east.http.post("/api/revocations", json={"user_id": "ann"})).json()
            assert answer["disconnected"] == 2
            assert await ann.close_code() == await there.close_code() == REVOKED
            assert (await east.http.post("/api/revocations", json={"jti": "3"})).json()["disconnected"] == 1
            assert await bob.close_code() == REVOKED

            # As if its message had been lost with a connection: stored, and told to nobody.
            [prefix] = {key.partition(b":")[0] for key in redis.ask("KEYS", "*:revocations")}
            redis.ask("ZADD", prefix + b":revocations", int(time.time()) + 600, "user:cid")
            redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
            assert await cid.close_code() == REVOKED
    async with serve(**here) as late:
        await wait_ready(late, 200)
        for user, jti in (("ann", "1"), ("bob", "3"), ("cid", "4")):
            async with late.dial(f"/ws?token={token(user, jti)}") as client:
                assert await client.close_code() == REVOKED
        async with late.dial(f"/ws?token={token('bob', '5')}") as client:
            await client.ask("pong", type="ping")
