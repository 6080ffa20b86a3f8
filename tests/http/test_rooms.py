"""Rooms over HTTP: publish, look, remove."""

import json

import pytest
import trio

from actors import Reply
from broker.errors import CloseCode, EngineUnavailableError
from broker.rooms.messages import Join
from tests.support.engines import LongWayEngine
from tests.support.members import Person


async def join(world, room, user_id):
    member = Person(user_id)
    reply = Reply()
    ref = await world.rooms.tell(room, Join(member, None, None, reply))
    await ref.wait_reply(reply)
    return member


class DownEngine(LongWayEngine):
    """An engine that can be switched off."""

    is_down = False

    def __init__(self):
        super().__init__(wall_clock=lambda: 1_700_000_000.0, idempotency_seconds=300)

    def check(self):
        if self.is_down:
            raise EngineUnavailableError("the engine is away", retry_after_ms=1500)

    async def position(self, room):
        self.check()
        return await super().position(room)

    async def append(self, room, drafts, retention):
        self.check()
        return await super().append(room, drafts, retention)


class StuckEngine(LongWayEngine):
    """An engine that answers appends only when it is let."""

    def __init__(self):
        super().__init__(wall_clock=lambda: 1_700_000_000.0, idempotency_seconds=300)
        self.go_on = trio.Event()

    async def append(self, room, drafts, retention):
        await self.go_on.wait()
        return await super().append(room, drafts, retention)


async def test_publish_answers_where_the_message_is(world):
    response = await world.client.post("/api/rooms/lobby/messages", json={"type": "note", "n": 1})
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    answer = response.json()
    assert answer == {"room": "lobby", "offset": 1, "epoch": answer["epoch"], "members": 0}
    assert (await world.say("lobby", 2))["offset"] == 2


async def test_publish_counts_and_reaches_the_members(world):
    ann = await join(world, "lobby", "ann")
    await join(world, "lobby", "bob")
    assert (await world.say("lobby", 1))["members"] == 2
    assert ann.heard[-1].event.content == b'{"type":"note","n":1}'


@pytest.mark.parametrize(
    "content_type",
    [None, "application/json", "application/json; charset=utf-8", "application/cloudevents+json"],
)
async def test_publish_takes_json_by_any_of_its_names(world, content_type):
    headers = {} if content_type is None else {"Content-Type": content_type}
    response = await world.client.post("/api/rooms/a/messages", content=b'{"type":"x"}', headers=headers)
    assert response.status_code == 200


BODIES = [
    ("POST", "/api/rooms/a/messages", b'{"type":"x"}'),
    ("POST", "/api/broadcast", b'{"rooms":["a"],"message":{"type":"x"}}'),
    ("POST", "/api/messages", b'{"room":"a","message":{"type":"x"}}\n'),
]


@pytest.mark.parametrize(("method", "path", "body"), BODIES)
@pytest.mark.parametrize(
    "coding", ["gzip", "GZIP", "br", "deflate", "x-gzip", "identity, gzip", "unheard-of"]
)
async def test_no_body_may_be_encoded(world, method, path, body, coding):
    response = await world.client.request(method, path, content=body, headers={"Content-Encoding": coding})
    assert response.status_code == 415
    assert response.headers["Accept-Encoding"] == "identity"
    assert "Content-Encoding" in response.json()["detail"]


@pytest.mark.parametrize(("method", "path", "body"), BODIES)
async def test_the_coding_identity_is_none(world, method, path, body):
    response = await world.client.request(
        method, path, content=body, headers={"Content-Encoding": "identity"}
    )
    assert response.status_code == 200


async def test_publish_takes_no_other_content_type(world):
    response = await world.client.post("/api/rooms/a/messages", data={"type": "x"})
    assert response.status_code == 415
    detail = "Content-Type: application/json, or none at all; not application/x-www-form-urlencoded"
    assert response.json()["detail"] == detail


@pytest.mark.parametrize(
    ("body", "code", "detail"),
    [
        (b"", "invalid_json", "Invalid JSON"),
        (b"{", "invalid_json", "Invalid JSON"),
        (b"[1]", "invalid_message", "message: one JSON object"),
        (b"{}", "invalid_message", "type: a string"),
        (b'{"type":"chat"}', "invalid_message", "type: a name of your own"),
        (b'{"type":"x","text":"\xff"}', "invalid_json", "not UTF-8"),
    ],
)
async def test_publish_refuses_a_body_that_is_no_message(world, body, code, detail):
    response = await world.client.post("/api/rooms/a/messages", content=body)
    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem["code"] == code
    assert detail in problem["detail"]
    assert (problem["type"], problem["title"], problem["status"]) == ("about:blank", "Bad Request", 400)


UNPORTABLE = [
    ("1e400", "range"),
    ("[9223372036854775808]", "64-bit"),
    ('{"a":"\\ud800"}', "surrogate"),
    ("[" * 64 + "]" * 64, "64 levels"),
    ("[" * 5000 + "]" * 5000, "64 levels"),
]


@pytest.mark.parametrize(("data", "told"), UNPORTABLE, ids=lambda text: text[:12])
async def test_a_message_unreadable_for_some_clients_is_422_on_every_route(world, data, told):
    message = f'{{"type":"x","data":{data}}}'
    response = await world.client.post("/api/rooms/a/messages", content=message)
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "invalid_message")
    assert problem["detail"].startswith("data: ")
    assert told in problem["detail"]
    broadcast = await world.client.post("/api/broadcast", content=f'{{"rooms":["a"],"message":{message}}}')
    assert (broadcast.status_code, broadcast.json()["code"]) == (422, "invalid_message")
    assert told in broadcast.json()["detail"]
    lines = f'{{"room":"a","message":{message},"id":"k"}}\n{{"id":7,"room":"b","message":{message}}}\n'
    batch = await world.client.post("/api/messages", content=lines + '{"room":"a","message":{"type":"y"}}\n')
    bad, worse, good = [json.loads(line) for line in batch.text.splitlines()]
    assert [(line["id"], line["room"], line["error"]["code"]) for line in (bad, worse)] == [
        ("k", "a", "invalid_message"),
        (7, "b", "invalid_message"),
    ]
    assert told in bad["error"]["message"]
    assert good["offset"] == 1, "nothing else was said"


async def test_a_message_has_as_many_levels_in_every_request(world):
    message = '{"type":"x","data":%s}' % ("[" * 63 + "]" * 63)
    assert (await world.client.post("/api/rooms/a/messages", content=message)).status_code == 200
    broadcast = await world.client.post("/api/broadcast", content=f'{{"rooms":["a"],"message":{message}}}')
    assert broadcast.json()["results"][0]["offset"] == 2
    batch = await world.client.post("/api/messages", content=f'{{"room":"a","message":{message}}}\n')
    assert batch.json()["offset"] == 3


async def test_room_names_are_percent_encoded_utf_8(world):
    response = await world.client.post("/api/rooms/caf%C3%A9%20%3F%23/messages", json={"type": "x"})
    assert response.json()["room"] == "café ?#"


@pytest.mark.parametrize("name", ["%FF", "%0A", "a%C2%85b", "x" * 129])
async def test_other_room_names_are_refused(world, name):
    for method, path in [
        ("POST", "messages"),
        ("GET", "messages"),
        ("GET", ""),
        ("DELETE", "users/ann"),
        ("GET", "events"),
    ]:
        url = f"/api/rooms/{name}/{path}".rstrip("/")
        response = await world.client.request(
            method, url, content=b'{"type":"x"}' if method == "POST" else None
        )
        assert response.status_code == 400, (method, url)
        assert response.json()["detail"].startswith(("room:", "path:"))


async def test_the_same_idempotency_key_is_stored_once(world):
    ann = await join(world, "lobby", "ann")
    headers = {"Idempotency-Key": "k1"}
    first = await world.client.post("/api/rooms/lobby/messages", json={"type": "x"}, headers=headers)
    await world.say("lobby", 2)
    again = await world.client.post("/api/rooms/lobby/messages", json={"type": "x"}, headers=headers)
    assert first.json()["offset"] == again.json()["offset"] == 1
    assert len([n for n in ann.heard if hasattr(n, "event")]) == 2
    world.clock[0] += 301
    later = await world.client.post("/api/rooms/lobby/messages", json={"type": "x"}, headers=headers)
    assert later.json()["offset"] == 3


@pytest.mark.parametrize("key", ["", "k" * 129])
async def test_an_idempotency_key_has_a_length(world, key):
    response = await world.client.post(
        "/api/rooms/a/messages", json={"type": "x"}, headers={"Idempotency-Key": key}
    )
    assert response.status_code == 400
    assert response.json()["detail"].startswith("Idempotency-Key:")


async def test_an_ephemeral_message_is_heard_and_not_kept(world):
    ann = await join(world, "lobby", "ann")
    response = await world.client.post("/api/rooms/lobby/messages?ephemeral=1", json={"type": "x"})
    assert response.json() == {"room": "lobby", "offset": None, "epoch": None, "members": 1}
    assert ann.heard[-1].event.offset is None
    history = await world.client.get("/api/rooms/lobby/messages")
    assert history.json()["messages"] == []


async def test_ephemeral_is_yes_or_no(world):
    response = await world.client.post("/api/rooms/lobby/messages?ephemeral=maybe", json={"type": "x"})
    assert response.status_code == 400
    assert response.json()["detail"].startswith("ephemeral:")


async def test_an_engine_that_is_away_is_a_503(open_world):
    engine = DownEngine()
    async with open_world(engine=engine) as world:
        await world.say("lobby", 1)
        engine.is_down = True
        for room in ("lobby", "new"):
            response = await world.client.post(f"/api/rooms/{room}/messages", json={"type": "x"})
            assert response.status_code == 503
            assert response.headers["Retry-After"] == "2"
            problem = response.json()
            assert (problem["code"], problem["retry_after_ms"]) == ("unavailable", 1500)


async def test_an_engine_that_hangs_is_a_503(open_world):
    engine = StuckEngine()
    async with open_world(engine=engine, http={"request_seconds": 0.2}) as world:
        response = await world.client.post("/api/rooms/a/messages", json={"type": "x"})
        assert response.status_code == 503
        assert "no answer in time" in response.json()["detail"]
        engine.go_on.set()


async def test_a_room_that_fails_is_a_503(open_world):
    class BrokenEngine(DownEngine):
        async def append(self, room, drafts, retention):
            raise ZeroDivisionError

    async with open_world(engine=BrokenEngine()) as world:
        response = await world.client.post("/api/rooms/a/messages", json={"type": "x"})
        assert response.status_code == 503
        assert response.json()["code"] == "unavailable"
        assert "ZeroDivisionError" not in response.text


async def test_rooms_are_listed_by_name_and_page(world):
    for room in ["b", "a2", "a1", "c"]:
        await world.say(room, 1)
    page = (await world.client.get("/api/rooms?limit=2")).json()
    assert [room["room"] for room in page["rooms"]] == ["a1", "a2"]
    assert page["cursor"] == "a2"
    page = (await world.client.get("/api/rooms", params={"limit": 2, "cursor": page["cursor"]})).json()
    assert [room["room"] for room in page["rooms"]] == ["b", "c"]
    assert page["cursor"] is None
    page = (await world.client.get("/api/rooms?prefix=a")).json()
    assert page["rooms"][0] == {"room": "a1", "room_size": 0, "offset": 1, "epoch": page["rooms"][0]["epoch"]}
    assert len(page["rooms"]) == 2


async def test_a_room_is_told_with_its_users(world):
    for user in ["ann", "ann", "bob"]:
        await join(world, "lobby", user)
    await world.say("lobby", 1)
    told = (await world.client.get("/api/rooms/lobby")).json()
    assert told == {
        "room": "lobby",
        "room_size": 3,
        "offset": 1,
        "epoch": told["epoch"],
        "users": [{"user_id": "ann", "connections": 2}, {"user_id": "bob", "connections": 1}],
    }


async def test_history_is_paged_from_a_position(world):
    epoch = (await world.say("lobby", 1))["epoch"]
    for number in (2, 3, 4):
        await world.say("lobby", number)
    whole = (await world.client.get("/api/rooms/lobby/messages")).json()
    assert whole["offset"] == 4
    assert whole["epoch"] == epoch
    assert "recovered" not in whole
    assert whole["messages"][0] == {
        "type": "note",
        "n": 1,
        "room": "lobby",
        "offset": 1,
        "epoch": epoch,
        "time": 1_700_000_000_000,
    }
    query = {"since": 1, "epoch": epoch, "limit": 2}
    page = (await world.client.get("/api/rooms/lobby/messages", params=query)).json()
    assert [message["n"] for message in page["messages"]] == [2, 3]
    assert page["recovered"] is True
    page = (await world.client.get("/api/rooms/lobby/messages?reverse=1&limit=2")).json()
    assert [message["n"] for message in page["messages"]] == [4, 3]


async def test_history_of_another_epoch_is_not_recovered(world):
    await world.say("lobby", 1)
    page = (await world.client.get("/api/rooms/lobby/messages?since=0&epoch=gone")).json()
    assert page["recovered"] is False
    assert [message["n"] for message in page["messages"]] == [1]


async def test_a_page_of_history_has_a_limit(open_world):
    async with open_world(history={"page_messages": 2}) as world:
        for number in (1, 2, 3):
            await world.say("lobby", number)
        page = (await world.client.get("/api/rooms/lobby/messages?limit=1000")).json()
        assert len(page["messages"]) == 2


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=many", "limit"),
        ("limit=0", "limit"),
        ("since=-1&epoch=e", "since"),
        ("since=1", "epoch"),
        ("epoch=e", "since"),
        ("reverse=perhaps", "reverse"),
    ],
)
async def test_a_bad_parameter_is_named(world, query, name):
    response = await world.client.get(f"/api/rooms/lobby/messages?{query}")
    assert response.status_code == 400
    assert response.json()["detail"].startswith(f"{name}:")


async def test_a_bad_parameter_of_the_list_is_named(world):
    response = await world.client.get("/api/rooms?limit=5000")
    assert response.status_code == 400
    assert response.json()["detail"].startswith("limit:")


async def test_a_user_is_removed_from_a_room(world):
    members = [await join(world, "lobby", user) for user in ("ann", "ann", "bob")]
    response = await world.client.delete("/api/rooms/lobby/users/ann")
    assert response.json() == {"removed": 2}
    assert [member.removals for member in members] == [["lobby"], ["lobby"], []]
    assert (await world.client.delete("/api/rooms/lobby/users/nobody")).json() == {"removed": 0}


async def test_all_connections_of_a_user_are_closed(world):
    members = [Person("ann"), Person("ann"), Person("bob")]
    for member in members:
        world.connections.add(member)
    response = await world.client.delete("/api/users/ann")
    assert response.json() == {"disconnected": 2}
    assert [[code for code, _ in member.disconnects] for member in members] == [
        [CloseCode.REMOVED],
        [CloseCode.REMOVED],
        [],
    ]


async def test_broadcast_answers_for_each_room_in_order(world):
    await join(world, "b", "ann")
    ask = {"rooms": ["a", "b", "no/room", "c"], "message": {"type": "x", "n": 1}}
    response = await world.client.post("/api/broadcast", json=ask)
    assert response.status_code == 200
    results = response.json()["results"]
    assert [result["room"] for result in results] == ["a", "b", "no/room", "c"]
    assert [result.get("members") for result in results] == [0, 1, None, 0]
    assert results[2]["error"]["code"] == "invalid_message"
    assert results[0]["offset"] == 1


async def test_each_room_of_a_broadcast_fails_alone(open_world):
    class Engine(DownEngine):
        async def append(self, room, drafts, retention):
            if room == "bad":
                raise EngineUnavailableError("not this one")
            return await super().append(room, drafts, retention)

    async with open_world(engine=Engine()) as world:
        ask = {"rooms": ["good", "bad"], "message": {"type": "x"}}
        good, bad = (await world.client.post("/api/broadcast", json=ask)).json()["results"]
        assert good["offset"] == 1
        assert bad == {
            "room": "bad",
            "error": {"code": "unavailable", "message": "engine: unavailable", "retry_after_ms": 1000},
        }


async def test_a_broadcast_can_be_repeated_with_its_key(world):
    ask = {"rooms": ["a", "b"], "message": {"type": "x"}}
    for _ in range(2):
        response = await world.client.post("/api/broadcast", json=ask, headers={"Idempotency-Key": "k"})
        assert [result["offset"] for result in response.json()["results"]] == [1, 1]


async def test_a_large_broadcast_reaches_every_room(open_world):
    async with open_world(http={"body_bytes": 100_000}) as world:
        rooms = [f"room {n}" for n in range(1000)]
        message = {"type": "x"}
        response = await world.client.post("/api/broadcast", json={"rooms": rooms, "message": message})
        assert [result["offset"] for result in response.json()["results"]] == [1] * 1000
        response = await world.client.post(
            "/api/broadcast", json={"rooms": [*rooms, "x"], "message": message}
        )
        assert response.status_code == 400
        assert response.json()["detail"].startswith("rooms:")


@pytest.mark.parametrize(
    ("ask", "detail"),
    [
        ({"rooms": "a", "message": {"type": "x"}}, "rooms:"),
        ({"rooms": [], "message": {"type": "x"}}, "rooms:"),
        ({"rooms": ["a"]}, "object missing required field `message`"),
        ({"rooms": ["a"], "message": {"type": "joined"}}, "type:"),
    ],
)
async def test_a_broadcast_that_makes_no_sense_is_refused(world, ask, detail):
    response = await world.client.post("/api/broadcast", json=ask)
    assert response.status_code == 400
    assert response.json()["detail"].startswith(detail)
