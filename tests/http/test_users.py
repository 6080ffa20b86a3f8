"""The online users, over HTTP; and unknown query parameters."""

import pytest

from tests.support.members import Person


async def test_users_are_online_while_they_are_connected(world):
    connections = world.connections
    people = [Person(name) for name in ("bob", "ann", "bob", "carl")]
    for person in people:
        assert connections.add(person)
    listener = Person("api/0")
    assert connections.add(listener)
    answer = (await world.client.get("/api/users")).json()
    assert answer == {
        "users": [
            {"user_id": "ann", "connections": 1},
            {"user_id": "bob", "connections": 2},
            {"user_id": "carl", "connections": 1},
        ],
        "cursor": None,
        "silent_nodes": 0,
    }
    first = (await world.client.get("/api/users?limit=2")).json()
    assert ([user["user_id"] for user in first["users"]], first["cursor"]) == (["ann", "bob"], "bob")
    rest = (await world.client.get(f"/api/users?limit=2&cursor={first['cursor']}")).json()
    assert ([user["user_id"] for user in rest["users"]], rest["cursor"]) == (["carl"], None)
    assert [u["user_id"] for u in (await world.client.get("/api/users?prefix=c")).json()["users"]] == ["carl"]
    assert (await world.client.get("/api/users/bob")).json() == {
        "user_id": "bob",
        "connections": 2,
        "silent_nodes": 0,
        "rooms": [],
    }
    assert (await world.client.get("/api/users/nobody")).json()["connections"] == 0
    people[0].rooms, people[2].rooms = ["lobby", "attic"], ["lobby"]
    assert (await world.client.get("/api/users/bob")).json()["rooms"] == [
        {"room": "attic", "connections": 1},
        {"room": "lobby", "connections": 2},
    ]
    connections.discard(people[1])
    assert (await world.client.get("/api/users/ann")).json()["connections"] == 0


async def test_a_history_is_deleted_and_goes_on(world):
    for number in range(3):
        placed = await world.say("lobby", number)
    assert (await world.client.delete("/api/rooms/lobby/messages")).json() == {"deleted": 3}
    history = (await world.client.get("/api/rooms/lobby/messages")).json()
    assert (history["messages"], history["offset"], history["epoch"]) == ([], 3, placed["epoch"])
    since = f"since=1&epoch={placed['epoch']}"
    assert (await world.client.get(f"/api/rooms/lobby/messages?{since}")).json()["recovered"] is False
    assert (await world.say("lobby", 4))["offset"] == 4


async def test_a_look_at_a_room_that_nobody_made_makes_none(world):
    for target in ("/api/rooms/new", "/api/rooms/new/messages", "/api/rooms/new/messages?limit=1&reverse=1"):
        for method in ("GET", "HEAD"):
            assert (await world.client.request(method, target)).status_code == 200
    for target in ("/api/rooms/new/users/ann", "/api/rooms/new/messages"):
        assert (await world.client.delete(target)).status_code == 200
    assert (await world.client.get("/api/rooms")).json()["rooms"] == []
    assert world.rooms.statistics().rooms == 0
    assert world.services.engine.statistics().history_bytes == 0


@pytest.mark.parametrize(
    ("method", "target", "told"),
    [
        ("GET", "/api/rooms?limt=5", "limt: no such query parameter; the nearest is limit"),
        ("GET", "/api/rooms?limit=5&LIMIT=6", "LIMIT: no such query parameter; the nearest is "),
        ("GET", "/api/rooms/a/messages?from=3", "from: no such query parameter; the nearest is "),
        (
            "GET",
            "/api/rooms/a/messages?since_offset=3",
            "since_offset: no such query parameter; the nearest is since",
        ),
        (
            "POST",
            "/api/rooms/a/messages?ephemeral=1&ephemral=1",
            "ephemral: no such query parameter; the nearest is ephemeral",
        ),
        ("POST", "/api/broadcast?ephemral=1", "ephemral: no such query parameter; the nearest is ephemeral"),
        (
            "GET",
            "/api/rooms/a/events?lastEventId=e-1",
            "lastEventId: no such query parameter; the nearest is last_event_id",
        ),
        ("GET", "/api/users/a?x=", "x: no such query parameter; this path takes none"),
        ("DELETE", "/api/users/ann?force=1", "force: no such query parameter; this path takes none"),
        ("GET", "/api/node?nod=all", "nod: no such query parameter; the nearest is node"),
        ("GET", "/api/users?" + "y" * 99, "y" * 40 + ": no such query parameter; the nearest is "),
    ],
)
async def test_a_query_parameter_that_a_route_does_not_have_is_refused(world, method, target, told):
    response = await world.client.request(method, target, json={"type": "x"} if method == "POST" else None)
    assert response.status_code == 400, response.text
    assert (response.json()["code"], response.json()["detail"][: len(told)]) == ("invalid_message", told)


async def test_probes_may_carry_whatever_parameters_they_like(world):
    for path in ("/health?x=1", "/ready?t=5", "/openapi.json?v=2"):
        assert (await world.client.get(path)).status_code == 200
