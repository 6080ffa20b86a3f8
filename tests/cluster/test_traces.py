"""A trace goes with its event to the nodes that have members."""

from typing import TYPE_CHECKING

import pytest

from tests.cluster.test_servers import REDIS, wait_ready
from tests.support.redis import RedisServer

pytest.importorskip("opentelemetry.sdk", reason="the extra traces is not installed")

from tests.server.test_traces import CALLER, TRACE, Spans, id_of, parent_of, post, trace_of

if TYPE_CHECKING:
    from tests.support.served import Serve


async def test_a_trace_goes_over_all_nodes(redis: RedisServer, serve: "Serve") -> None:
    spans, elsewhere = Spans(), Spans()
    here = {"server": {"engine": redis.url}, "redis": REDIS}
    async with (
        serve(parts={"tracer_provider": spans.provider}, **here) as east,
        serve(parts={"tracer_provider": elsewhere.provider}, **here) as west,
    ):
        await wait_ready(east, 200)
        await wait_ready(west, 200)
        async with east.connect("/ws/den", user_id="bob") as bob, west.connect("/ws/den") as ann:
            await bob.receive("joined")
            await ann.receive("joined")
            await post(east, "plain", CALLER)
            assert (await ann.receive("note"))["room"] == "den"
            found = await spans.wait(3)
            request = found["POST /api/rooms/<room>/messages"]
            [fanout] = (await elsewhere.wait(1)).values()
            assert (fanout.name, parent_of(fanout), trace_of(fanout)) == ("fan-out", id_of(request), TRACE)
