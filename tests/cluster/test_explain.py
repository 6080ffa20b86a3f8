"""An explanation has what all nodes know, and counts those that do not answer."""

from typing import TYPE_CHECKING

from tests.cluster.test_servers import REDIS, wait_ready
from tests.support.redis import RedisServer

if TYPE_CHECKING:
    from tests.support.served import Serve


async def test_each_node_tells_of_its_own_connections(redis: RedisServer, serve: "Serve") -> None:
    here = {"server": {"engine": redis.url}, "redis": REDIS, "rooms": [{"pattern": "den", "access": "token"}]}
    async with serve(**here) as east, serve(**here) as west:
        await wait_ready(east, 200)
        await wait_ready(west, 200)
        async with (
            east.connect("/ws", rooms=["den"], can=["join", "chat"]) as ann,
            west.connect("/ws/den", rooms=["den"]) as there,
        ):
            await ann.ask("pong", type="ping")
            await there.receive("joined")
            sent = await there.ask("ack", type="chat", text="hi", id=1)
            explanation = (await east.http.get("/api/explain?user=ann&room=den")).json()
            assert explanation["silent_nodes"] == 0
            nodes = explanation["nodes"]
            assert [len(node["connections"]) for node in nodes] == [1, 1]
            [here_only] = [node for node in nodes if node["room"] is None]
            [with_room] = [node for node in nodes if node["room"] is not None]
            assert (with_room["room"]["offset"], with_room["room"]["epoch"]) == (
                sent["offset"],
                sent["epoch"],
            )
            assert [each["is_in_room"] for each in with_room["connections"]] == [True]
            assert [each["is_in_room"] for each in here_only["connections"]] == [False]
            by_action = {each["action"]: each for each in here_only["connections"][0]["permissions"]}
            assert (by_action["join"]["by"], by_action["publish"]["ground"]) == ("den", "claim_can")
            # Without a token, the rule decides: it wants a token that names the room.
            assert {each["verdict"] for each in explanation["permissions"]} == {"refused"}
            await west.http.delete("/api/users/ann")
            assert (await there.close_code())[0] == 4004
        closes: list[list[dict]] = []
        while not all(closes) or len(closes) < 2:
            explanation = (await east.http.get("/api/explain?user=ann&room=den")).json()
            closes = [node["closes"] for node in explanation["nodes"]]
        assert {close["code"] for node in closes for close in node} <= {4004, 1000}
