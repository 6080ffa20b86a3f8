"""The main job: browsers meet in a room, a service pushes into it, and whoever drops dead is gone from it."""

import json
import re
import socket
import struct

import pytest
import trio
from quart_trio import QuartTrio

from tests.certificates import Authority
from tests.support.served import make_serve


@pytest.fixture(params=["plain", "tls"])
def serve(request, tmp_path):
    return make_serve(Authority(tmp_path) if request.param == "tls" else None)


async def test_two_clients_meet_chat_and_part(serve):
    async with serve() as served, served.connect("/ws/lobby", "ann") as ann:
        joined = await ann.receive()
        assert {
            key: joined[key] for key in ("type", "room", "room_size", "offset", "recovered", "messages")
        } == {
            "type": "joined",
            "room": "lobby",
            "room_size": 1,
            "offset": 0,
            "recovered": False,
            "messages": [],
        }
        assert await ann.receive() == {
            "type": "user_joined",
            "room": "lobby",
            "user_id": "ann",
            "room_size": 1,
        }
        async with served.connect("/ws/lobby", "bob") as bob:
            assert (await bob.receive())["room_size"] == 2
            told = {"type": "user_joined", "room": "lobby", "user_id": "bob", "room_size": 2}
            assert await bob.receive() == told
            assert await ann.receive() == told
            await bob.send(type="chat", text="hello", id="m1")
            heard = await ann.receive()
            assert heard["text"] == "hello"
            assert heard["user_id"] == "bob"
            assert heard["offset"] == 1
            assert heard["epoch"] == joined["epoch"]
            assert await bob.receive() == heard
            assert await bob.receive() == {
                "type": "ack",
                "room": "lobby",
                "id": "m1",
                "offset": 1,
                "epoch": joined["epoch"],
            }
        assert await ann.receive() == {
            "type": "user_left",
            "room": "lobby",
            "user_id": "bob",
            "room_size": 1,
        }


async def test_a_service_pushes_into_a_users_room(serve):
    async with serve() as served, served.connect("/ws/user_7", "7") as customer:
        joined = await customer.receive("joined")
        answer = await served.http.post(
            "/api/rooms/user_7/messages", json={"type": "order_update", "order_id": 5, "status": "shipped"}
        )
        assert answer.status_code == 200
        assert answer.json() == {"room": "user_7", "offset": 1, "epoch": joined["epoch"], "members": 1}
        event = await customer.receive("order_update")
        assert event.pop("time") > 1_700_000_000_000
        assert event == {
            "type": "order_update",
            "order_id": 5,
            "status": "shipped",
            "room": "user_7",
            "offset": 1,
            "epoch": joined["epoch"],
        }


async def test_one_connection_in_many_rooms(serve):
    async with serve() as served, served.connect("/ws") as client:
        for room in ("a", "b"):
            assert (await client.ask("joined", type="join", room=room, id=room))["id"] == room
        await client.send(type="chat", room="b", text="in b")
        assert (await client.receive("chat"))["room"] == "b"
        assert await client.ask("left", type="leave", room="a", id=3) == {
            "type": "left",
            "room": "a",
            "id": 3,
        }
        assert (await client.ask("error", type="chat", room="a", text="?"))["code"] == "not_in_room"
        assert (await client.ask("error", type="chat", text="?"))["code"] == "invalid_message"


async def test_a_client_that_comes_back_has_missed_nothing(serve):
    async with serve() as served:
        async with served.connect("/ws/news", "ann") as ann:
            joined = await ann.receive("joined")
        for number in range(3):
            await served.broker.publish("news", {"type": "item", "number": number})
        target = f"/ws/news?token={served.token('ann')}&offset={joined['offset']}&epoch={joined['epoch']}"
        async with served.dial(target) as ann:
            rejoined = await ann.receive()
            assert rejoined["recovered"] is True
            assert [m["number"] for m in rejoined["messages"]] == [0, 1, 2]
            assert [m["offset"] for m in rejoined["messages"]] == [1, 2, 3]


async def test_a_bad_token_is_seen_as_a_close_code(serve):
    async with serve() as served:
        for target in ("/ws/lobby", "/ws/lobby?token=nonsense"):
            async with served.dial(target) as client:
                code, _ = await client.close_code()
                assert code == 4001


async def test_a_foreign_room_is_forbidden(serve):
    async with serve() as served, served.connect("/ws/user_2", "1") as client:
        assert (await client.close_code())[0] == 4003


async def test_a_reset_connection_leaves_its_room_at_once(serve):
    async with serve() as served, served.connect("/ws/lobby", "ann") as ann:
        await ann.receive("user_joined")
        host, port = served.url.partition("://")[2].split(":")
        stream = await trio.open_tcp_stream(host, int(port))
        raw = stream.socket
        if served.tls is not None:
            stream = trio.SSLStream(stream, served.tls, server_hostname=host)
        with raw:
            request = (
                f"GET /ws/lobby?token={served.token('bob')} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            await stream.send_all(request.encode())
            assert (await ann.receive("user_joined"))["user_id"] == "bob"
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        left = await ann.receive()
        assert left == {"type": "user_left", "room": "lobby", "user_id": "bob", "room_size": 1}


@pytest.mark.parametrize("target", ["/ws/lobby", "/ws"])
async def test_a_plain_request_for_a_websocket_is_told_to_upgrade(serve, target):
    async with serve() as served:
        answer = await served.http.get(target)
        assert answer.status_code == 426
        assert answer.headers["content-type"] == "application/problem+json"


async def test_the_application_removes_a_user(serve):
    async with (
        serve() as served,
        served.connect("/ws", "ann") as ann,
        served.connect("/ws/lobby", "ann") as other,
    ):
        await ann.ask("joined", type="join", room="lobby")
        await other.receive("joined")
        assert (await served.http.delete("/api/rooms/lobby/users/ann")).json() == {"removed": 2}
        assert (await ann.receive("left"))["room"] == "lobby"
        # A connection made to the very room has nothing left to do.
        assert (await other.close_code())[0] == 4004
        assert (await served.http.delete("/api/users/ann")).json() == {"disconnected": 1}
        assert (await ann.close_code())[0] == 4004


async def test_everything_said_over_http_is_seen_by_http(serve):
    async with serve() as served, served.connect("/ws/lobby", "ann") as ann:
        await ann.receive("joined")
        assert (await served.http.get("/health")).json() == {"status": "ok"}
        rooms = (await served.http.get("/api/rooms")).json()["rooms"]
        assert [(room["room"], room["room_size"]) for room in rooms] == [("lobby", 1)]
        room = (await served.http.get("/api/rooms/lobby")).json()
        assert room["users"] == [{"user_id": "ann", "connections": 1}]
        metrics = (await served.http.get("/metrics")).text
        assert re.search(r"^greenroom_connections{[^}]*} 1\.0$", metrics, re.MULTILINE)


async def test_an_embedding_application_shares_the_port(serve):
    app = QuartTrio(__name__)

    @app.post("/orders/<int:order_id>/status")
    async def update_order_status(order_id: int) -> dict:
        published = await served.broker.publish("user_7", {"type": "order_update", "order_id": order_id})
        return {"members": published.room_size}

    async with serve(app=app) as served, served.connect("/ws/user_7", "7") as customer:
        await customer.receive("joined")
        assert (await served.http.post("/orders/5/status")).json() == {"members": 1}
        assert (await customer.receive("order_update"))["order_id"] == 5
        assert (await served.http.get("/health")).status_code == 200


async def test_a_draining_server_sends_its_clients_away_and_returns(serve):
    async with serve(server={"drain_seconds": 1.0}) as served:
        async with served.connect("/ws/lobby", "ann") as ann, served.connect("/ws/lobby", "bob") as bob:
            await ann.receive("joined")
            await bob.receive("joined")
            served.broker.begin_drain()
            delays = [(await client.receive("reconnect"))["after_ms"] for client in (ann, bob)]
            for client in (ann, bob):
                assert (await client.close_code()) == (1012, "service restart")
            # One in each half of the window.
            assert sorted(delay >= 500 for delay in delays) == [False, True]
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("127.0.0.1", int(served.url.rsplit(":", 1)[1]))


async def test_a_client_with_default_limits_reads_all_that_it_missed_in_an_hour(serve):
    async with serve() as served:
        first = await served.broker.publish("lobby", {"type": "note", "text": "the last one heard"})
        for number in range(999):
            await served.broker.publish("lobby", {"type": "note", "number": number, "text": "x" * 980})
        position = first.receipt.position
        place = f"offset={position.offset}&epoch={position.epoch}"
        async with served.dial(f"/ws/lobby?{place}&token={served.token('ann')}") as ann:
            joined = await ann.receive("joined")
            assert joined["recovered"]
            heard = joined["messages"]
            assert joined["offset"] == heard[-1]["offset"]
            while heard[-1]["offset"] < 1000:
                heard.append(await ann.receive("note"))
            assert [event["offset"] for event in heard] == list(range(2, 1001))
            held = (await ann.ask("history", type="history"))["messages"]
            assert held == (heard if held[0]["offset"] == 2 else held)
            assert [event["offset"] for event in held] == list(range(1, 1 + len(held)))


async def test_the_client_of_the_article_works(serve):
    """The article's browser code knows user_joined, chat, user_left, pong, and Invalid JSON."""
    async with serve() as served, served.connect("/ws/lobby", "ann") as ann:
        await ann.receive("user_joined")
        await ann.connection.send("{not json")
        error = await ann.receive()
        assert (error["type"], error["message"]) == ("error", "Invalid JSON")
        assert await ann.ask("pong", type="ping") == {"type": "pong"}
        chat = await ann.ask("chat", type="chat", text="x" * 501)
        assert len(chat["text"]) == 500
        assert chat["truncated"] is True
        await ann.connection.send(json.dumps({"type": "chat", "text": ""}))
        assert (await ann.receive("chat"))["text"] == ""
