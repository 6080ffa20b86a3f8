"""Whole servers on one Redis, and clients that cannot tell which of them they are on."""

from typing import TYPE_CHECKING

import pytest
import trio

from broker.errors import ConfigurationError
from tests.support.redis import RedisServer, run_redis

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.served import Client, Serve, Served

REDIS = {"timeout_seconds": 0.5, "probe_seconds": 0.05}


async def wait_ready(served: "Served", status: int) -> dict:
    """Wait until /ready answers with a status; return what it says."""
    while True:
        response = await served.http.get("/ready")
        if response.status_code == status:
            return response.json()
        await trio.sleep(0.01)


async def chat_until_stored(client: "Client", text: str, request_id: int) -> dict:
    while True:
        await client.send(type="chat", text=text, id=request_id)
        while (answer := await client.receive()).get("id") != request_id:
            pass
        if answer["type"] == "ack":
            return answer


async def test_clients_of_two_servers_talk(redis: RedisServer, serve: "Serve") -> None:
    here = {"server": {"engine": redis.url}, "redis": REDIS}
    async with serve(**here) as east, serve(**here) as west:
        await wait_ready(east, 200)
        async with east.connect("/ws/den", "ann") as ann, west.connect("/ws/den", "bob") as bob:
            assert (await ann.receive())["type"] == "joined"
            assert (await bob.receive())["type"] == "joined"
            ack = await ann.ask("ack", type="chat", text="hello", id=1)
            for client in (ann, bob):
                said = await client.receive("chat")
                assert (said["text"], said["offset"], said["epoch"]) == ("hello", ack["offset"], ack["epoch"])
            response = await west.http.post("/api/rooms/den/messages", json={"type": "order", "n": 1})
            assert response.json()["offset"] == 2
            for client in (ann, bob):
                assert (await client.receive("order"))["n"] == 1
        # One who comes back comes back anywhere.
        since = f"&offset=0&epoch={ack['epoch']}"
        async with east.dial(f"/ws/den?token={east.token('bob')}{since}") as bob:
            joined = await bob.receive()
            assert joined["recovered"] is True
            assert [message["offset"] for message in joined["messages"]] == [1, 2]


async def test_a_user_is_sent_away_from_all_servers(redis: RedisServer, serve: "Serve") -> None:
    here = {"server": {"engine": redis.url}, "redis": REDIS}
    async with serve(**here) as east, serve(**here) as west:
        await wait_ready(east, 200)
        await wait_ready(west, 200)
        async with east.connect("/ws/den", "ann") as ann, west.connect("/ws/den", "bob") as bob:
            await bob.receive("joined")
            while (await ann.receive()).get("user_id") != "bob":
                pass
            page = (await east.http.get("/api/rooms")).json()
            assert [(room["room"], room["room_size"]) for room in page["rooms"]] == [("den", 2)]
            details = (await west.http.get("/api/rooms/den")).json()
            assert {user["user_id"] for user in details["users"]} == {"ann", "bob"}
            for served in (east, west):
                assert (await served.http.get("/api/users")).json() == {
                    "users": [{"user_id": name, "connections": 1} for name in ("ann", "bob")],
                    "cursor": None,
                    "silent_nodes": 0,
                }
                bob_again = (await served.http.get("/api/users/bob")).json()
                assert (bob_again["connections"], bob_again["rooms"]) == (
                    1,
                    [{"room": "den", "connections": 1}],
                )
            assert (await east.http.delete("/api/users/bob")).json() == {"disconnected": 1}
            assert await bob.close_code() == (4004, "removed by the application")
            assert (await ann.receive("user_left"))["room_size"] == 1


async def test_a_redis_killed_and_restarted_costs_clients_nothing_but_time(
    tmp_path: "Path", serve: "Serve"
) -> None:
    with run_redis(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as redis:
        async with serve(server={"engine": redis.url}, redis=REDIS) as served:
            await wait_ready(served, 200)
            async with served.connect("/ws/den", "ann") as ann, served.connect("/ws", "bob") as bob:
                await ann.ask("ack", type="chat", text="one", id=1)
                redis.kill()
                refused = await ann.ask("error", type="chat", text="two", id=2)
                assert (refused["code"], refused["id"]) == ("unavailable", 2)
                assert refused["retry_after_ms"] > 0
                refused = await bob.ask("error", type="join", room="attic")
                assert refused["code"] == "unavailable"
                [reason] = (await wait_ready(served, 503))["reasons"]
                assert reason.startswith("engine: cannot be reached (since 20")
                answer = await served.http.post("/api/rooms/den/messages", json={"type": "order"})
                assert answer.status_code == 503
                redis.start()
                await wait_ready(served, 200)
                assert (await chat_until_stored(ann, "two", 2))["offset"] == 2
                page = (await served.http.get("/api/rooms/den/messages")).json()
                assert [message["text"] for message in page["messages"]] == ["one", "two"]
                assert (await bob.ask("joined", type="join", room="den"))["offset"] == 2


async def test_a_refused_login_stops_a_server_from_starting(tmp_path: "Path", serve: "Serve") -> None:
    with run_redis(tmp_path, password="right-one") as redis:
        with pytest.raises(ConfigurationError, match="refuses the login") as caught:
            async with serve(server={"engine": redis.url.replace("//", "//:hunter2@")}):
                pytest.fail("served")
        assert "hunter2" not in str(caught.value)
