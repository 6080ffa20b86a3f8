"""The state of a node that a whole broker reports to the console."""

import socket

import jwt
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.errors import EngineUnavailableError
from broker.http.nodes.states import NodeState
from tests.support.patience import PATIENCE_SECONDS


async def look(world, **query):
    response = await world.client.get("/api/node", params=query)
    assert response.status_code == 200, response.text
    return response.json()


async def listen(client, room, *headers):
    """Be in a room, as an event stream."""
    await client.send("\r\n".join([f"GET /api/rooms/{room}/events HTTP/1.1", "Host: test", *headers, "", ""]))
    await client.until(b'"joined"')


async def test_it_tells_of_the_node_its_engine_and_that_it_is_ready(world):
    state = await look(world)
    assert state["name"].startswith(f"{socket.gethostname()}:")
    assert state["version"]
    assert state["started_ms"] > 0
    assert 0 <= state["up_ms"] < 3_600_000
    assert state["time_ms"] == world.clock[0] * 1000
    assert (state["is_ready"], state["is_draining"], state["reasons"]) == (True, False, [])
    assert state["engine"]["name"] == "memory"
    assert state["engine"]["statistics"].items() >= {"commits": 0, "messages": 0, "waiting": 0}.items()
    assert set(state) == set(NodeState.__struct_fields__)


async def test_only_the_api_key_opens_it(world):
    world.client.headers.clear()
    assert (await world.client.get("/api/node")).status_code == 401
    token = {"Authorization": f"Bearer {world.token()}"}
    assert (await world.client.get("/api/node", headers=token)).status_code == 401


async def test_a_node_that_drains_says_so(world):
    world.draining.set()
    state = await look(world)
    assert (state["is_ready"], state["is_draining"], state["reasons"]) == (False, True, ["draining"])


async def test_an_engine_that_cannot_serve_is_named_and_the_rest_is_still_told(open_world, monkeypatch):
    async with open_world() as world:

        async def wait_ready() -> None:
            raise EngineUnavailableError("the disk is full")

        monkeypatch.setattr(world.services.engine, "wait_ready", wait_ready)
        state = await look(world)
        assert (state["is_ready"], state["reasons"]) == (False, ["engine: unavailable"])
        assert state["engine"]["name"] == "memory"


async def test_rooms_come_with_their_sizes_and_rates_the_busiest_first(world):
    await look(world)
    async with world.connect() as ann, world.connect() as bob:
        await listen(ann, "crowd", f"Authorization: Bearer {world.token('ann')}")
        await listen(bob, "crowd", f"Authorization: Bearer {world.token('bob')}")
        for number in range(3):
            await world.say("busy", number)
        await world.client.post("/api/rooms/busy/messages?ephemeral=1", json={"type": "note"})
        # A rate is over the time between two looks, of which the first was just now.
        await trio.sleep(1)
        rooms = (await look(world))["rooms"]
        assert (rooms["count"], rooms["members"], rooms["found"]) == (2, 2, 2)
        busy, crowd = rooms["top"]
        assert (busy["room"], busy["room_size"]) == ("busy", 0)
        assert 0 < busy["messages_per_second"] <= 4
        assert crowd == {"room": "crowd", "room_size": 2, "messages_per_second": 0}
        largest = (await look(world, order="largest", rooms=1))["rooms"]
        assert [room["room"] for room in largest["top"]] == ["crowd"]
        found = (await look(world, prefix="bu"))["rooms"]
        assert (found["count"], found["found"], [room["room"] for room in found["top"]]) == (2, 1, ["busy"])


@pytest.mark.parametrize("query", ["since=-1", "since=x", "rooms=201", "rooms=-1", "order=sideways"])
async def test_a_question_that_makes_no_sense_is_refused(world, query):
    response = await world.client.get(f"/api/node?{query}")
    assert response.status_code == 400
    assert response.json()["detail"].startswith(query.partition("=")[0])


async def test_a_slow_reader_is_shown_with_its_waiting_bytes(open_world):
    async with open_world(websocket={"outbox_bytes": 50_000_000}) as world:
        assert (await look(world))["slow_readers"]["count"] == 0
        async with world.connect() as lazy, world.connect() as keen:
            await listen(lazy, "lobby", f"Authorization: Bearer {world.token('lazy')}")
            await listen(keen, "other", f"Authorization: Bearer {world.token('keen')}")
            text = "x" * 60_000
            slow = {"count": 0}
            with trio.fail_after(PATIENCE_SECONDS):
                while not slow["count"] or slow["queued_bytes"] < 1_000_000:
                    await world.client.post("/api/rooms/lobby/messages", json={"type": "note", "text": text})
                    slow = (await look(world))["slow_readers"]
            assert (slow["count"], slow["limit_bytes"]) == (1, 50_000_000)
            assert slow["top"] == [{"user_id": "lazy", "queued_bytes": slow["queued_bytes"]}]


async def test_deliveries_are_counted_with_those_that_were_lost(world):
    async with world.connect() as ann:
        await listen(ann, "lobby", f"Authorization: Bearer {world.token('ann')}")
        before = await look(world)
        await world.say("lobby", 1)
        after = await look(world)
    assert (before["connections"], after["connections"]) == (1, 1)
    assert after["deliveries"] == before["deliveries"] + 1
    assert after["deliveries_lost"] == 0


async def test_thousands_of_rooms_are_looked_at_without_holding_up_the_others(open_world):
    # Empty rooms stay, however long a busy machine takes.
    async with open_world(room={"idle_seconds": 3600}) as world:
        for number in range(2_000):
            await world.say(f"room-{number}", 1)
        turns = 0

        async def take_turns() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_turns)
            before = turns
            state = await look(world, rooms=5)
            assert turns - before >= 4
            nursery.cancel_scope.cancel()
        assert (state["rooms"]["count"], len(state["rooms"]["top"])) == (2_000, 5)


class TestNodes:
    """Which node is told of."""

    async def test_one_alone_is_the_only_one_in_the_list(self, world):
        state = await look(world)
        (node,) = state["nodes"]
        assert (node["name"], node["machine"], node["worker"]) == (state["name"], socket.gethostname(), 0)
        assert state["silent_nodes"] == 0

    async def test_it_can_be_asked_for_by_name(self, world):
        name = (await look(world))["name"]
        assert (await look(world, node=name))["name"] == name

    @pytest.mark.parametrize("name", ["nobody:1", "ALL", "*", "\0", "é"])
    async def test_a_name_that_no_node_has_is_not_found(self, world, name):
        response = await world.client.get("/api/node", params={"node": name})
        assert response.status_code == 404
        assert response.headers["Content-Type"] == "application/problem+json"

    async def test_all_together_are_shaped_like_one(self, world):
        async with world.connect() as ann:
            await listen(ann, "lobby", f"Authorization: Bearer {world.token('ann')}")
            one, together = await look(world), await look(world, node="all")
        assert set(one) == set(together)
        assert together["name"] == "all"
        for node in one["nodes"] + together["nodes"]:
            assert node.pop("up_ms") >= 0
        for field in ("connections", "deliveries", "is_ready", "engine", "nodes", "slow_readers", "version"):
            assert together[field] == one[field]
        assert together["rooms"]["count"] == together["rooms"]["members"] == 1


class TestDevTokens:
    """Client tokens by HTTP, for trials."""

    async def test_without_dev_there_is_no_such_path(self, world):
        assert (await look(world))["makes_tokens"] is False
        response = await world.client.post("/api/dev/tokens", json={"user_id": "ann"})
        assert response.status_code == 404
        assert "/api/dev/tokens" not in (await world.client.get("/openapi.json")).json()["paths"]

    async def test_a_token_is_made_that_the_server_takes(self, open_world):
        async with open_world(is_dev=True) as world:
            assert (await look(world))["makes_tokens"] is True
            asked = {
                "user_id": "ann",
                "rooms": ["den"],
                "can": ["join"],
                "auto_join": ["den"],
                "ttl_seconds": 60,
            }
            made = (await world.client.post("/api/dev/tokens", json=asked)).json()
            assert made["user_id"] == "ann"
            assert made["expires_at"] == world.clock[0] + 60
            claims = jwt.decode(made["token"], options={"verify_signature": False})
            assert (claims["sub"], claims["rooms"], claims["can"]) == ("ann", ["den"], ["join"])
            assert claims["auto_join"] == ["den"]
            async with world.connect() as client:
                await listen(client, "den", f"Authorization: Bearer {made['token']}")

    async def test_it_takes_the_api_key(self, open_world):
        async with open_world(is_dev=True) as world:
            world.client.headers.clear()
            response = await world.client.post("/api/dev/tokens", json={"user_id": "ann"})
            assert response.status_code == 401

    @pytest.mark.parametrize(
        "asked",
        [
            {},
            {"user_id": ""},
            {"user_id": "a/b"},
            {"user_id": "ann", "can": ["fly"]},
            {"user_id": "ann", "auto_join": ["a/b"]},
            {"user_id": "ann", "ttl_seconds": 0},
        ],
    )
    async def test_a_token_that_the_server_would_refuse_is_not_made(self, open_world, asked):
        async with open_world(is_dev=True) as world:
            response = await world.client.post("/api/dev/tokens", json=asked)
            assert response.status_code == 400
            assert response.json()["code"] == "invalid_message"

    async def test_a_server_without_a_secret_makes_none(self, open_world, tmp_path):
        key = tmp_path / "key.pem"
        key.write_bytes(
            Ed25519PrivateKey.generate()
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        auth = {"algorithms": ["EdDSA"], "public_key_file": str(key)}
        async with open_world(is_dev=True, auth=auth) as world:
            assert (await look(world))["makes_tokens"] is False
            assert (await world.client.post("/api/dev/tokens", json={})).status_code == 404
