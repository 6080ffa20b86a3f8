"""API keys with scopes: each route lets in the keys that its scope allows, on both ways of a post, and the log names them."""

import json

import msgspec
import pytest

from broker.config.scopes import Scope
from broker.config.settings import HttpSettings
from tests.http.test_access import rules
from tests.http.ways import SETTINGS, compare, lines, post
from tests.support.secrets import API_KEY

NAMED = {
    "poster": ["publish"],
    "shop": ["publish:orders.*", "publish:lobby"],
    "reader": ["read"],
    "watcher": ["read:orders.*"],
    "ops": ["admin"],
    "both": ["publish:orders.*", "read:lobby"],
}
KEYS = {name: f"key-of-{name}-Zt9x" for name in NAMED} | {"http.api_key": API_KEY}
TABLES = [{"name": name, "key": KEYS[name], "scopes": scopes} for name, scopes in NAMED.items()]
HTTP = {"api_keys": TABLES}

NEEDS = {
    ("/api/rooms/{room}/messages", "post"): "publish",
    ("/api/rooms/{room}/messages", "get"): "read",
    ("/api/rooms/{room}/messages", "delete"): "admin",
    ("/api/rooms/{room}/events", "get"): "read",
    ("/api/rooms/{room}", "get"): "read",
    ("/api/rooms/{room}/code", "get"): "read",
    ("/api/rooms", "get"): "read",
    ("/api/rooms/{room}/users/{user}", "delete"): "admin",
    ("/api/broadcast", "post"): "publish",
    ("/api/messages", "post"): "publish",
    ("/api/users", "get"): "read",
    ("/api/users/{user}", "get"): "read",
    ("/api/users/{user}", "delete"): "admin",
    ("/api/revocations", "post"): "admin",
    ("/api/webhooks", "get"): "read",
    ("/api/webhooks/{name}/aside", "get"): "read",
    ("/api/webhooks/{name}/repeat", "post"): "admin",
    ("/api/node", "get"): "read",
    ("/api/explain", "get"): "read",
}


def bearer(name):
    return {"Authorization": f"Bearer {KEYS[name]}"}


@pytest.fixture
async def scoped(open_world):
    async with open_world(http=HTTP) as world:
        yield world


async def test_the_document_tells_the_scope_of_each_route(world):
    paths = (await world.client.get("/openapi.json")).json()["paths"]
    found = {
        (path, method): requirement["apiKey"]
        for path, item in paths.items()
        for method, described in item.items()
        for requirement in described.get("security", ())
        if "apiKey" in requirement
    }
    assert {route: [scope] for route, scope in NEEDS.items()}.items() <= found.items()
    # Each route that wants an API key needs one scope, and a route that changes something never needs `read`.
    for (path, method), scopes in found.items():
        assert scopes in [[scope] for scope in Scope], path
        assert (method == "get") is (scopes == ["read"]), path


BEARER_OF_ONLY = {"publish": "poster", "read": "reader", "admin": "ops", "all": "http.api_key"}


async def test_each_route_lets_in_the_keys_with_its_scope(scoped):
    """Over every route there is, described or not."""
    paths = (await scoped.client.get("/openapi.json")).json()["paths"]
    tried = 0
    for rule, method, path in rules(scoped):
        if not rule.startswith("/api/"):
            continue
        described = paths[rule.replace("<", "{").replace(">", "}")][method.lower()]
        needed = described["security"][0]["apiKey"][0]
        # HEAD where there is GET: an event stream has no end.
        used = "HEAD" if method == "GET" else method
        for scope, name in BEARER_OF_ONLY.items():
            response = await scoped.client.request(used, path, headers=bearer(name))
            assert response.status_code != 401, (rule, scope)
            assert (response.status_code == 403) is (scope not in {needed, "all"}), (rule, scope)
            if response.status_code == 403 and used != "HEAD":
                problem = response.json()
                assert problem["code"] == "forbidden"
                detail = f"the API key {name} may not do this: it lacks the scope {needed}"
                assert problem["detail"] == detail
        tried += 1
    assert tried >= len(NEEDS)


IN_ROOMS = [
    ("POST", "/api/rooms/orders.7/messages", {"poster", "shop", "both"}),
    ("POST", "/api/rooms/lobby/messages", {"poster", "shop"}),
    ("POST", "/api/rooms/order%73.7/messages", {"poster", "shop", "both"}),
    ("POST", "/api/rooms/Orders.7/messages", {"poster"}),
    ("POST", "/api/rooms/a-lobby/messages", {"poster"}),
    ("GET", "/api/rooms/orders.7/messages", {"reader", "watcher"}),
    ("GET", "/api/rooms/lobby/messages", {"reader", "both"}),
    ("GET", "/api/rooms/orders.7", {"reader", "watcher"}),
    ("HEAD", "/api/rooms/orders.7/events", {"reader", "watcher"}),
    ("HEAD", "/api/rooms/lobby/events", {"reader", "both"}),
    ("GET", "/api/rooms", {"reader"}),
    ("GET", "/api/users", {"reader"}),
    ("GET", "/api/node", {"reader"}),
    ("DELETE", "/api/rooms/orders.7/messages", {"ops"}),
    ("DELETE", "/api/users/ann", {"ops"}),
]


async def test_a_pattern_bounds_a_key_to_its_rooms(scoped):
    refused = 0
    for method, path, allowed in IN_ROOMS:
        content = {"json": {"type": "note"}} if method == "POST" else {}
        for name in NAMED:
            response = await scoped.client.request(method, path, headers=bearer(name), **content)
            assert response.status_code == (200 if name in allowed else 403), (method, path, name)
        refused += len(NAMED) - len(allowed)
    assert scoped.services.refusals.counts == {"api_key_scope": refused}


async def test_a_pattern_bounds_a_key_to_calls_in_its_rooms(scoped):
    for room, allowed in (("orders.7", {"poster", "shop", "both"}), ("lobby", {"poster", "shop"})):
        for name in NAMED:
            response = await scoped.client.post(f"/api/rooms/{room}/calls/pay", headers=bearer(name))
            # Neither room has code.
            assert response.status_code == (404 if name in allowed else 403), (room, name)


async def test_the_single_key_may_do_everything_and_others_know_no_more_paths(scoped):
    assert (await scoped.client.get("/api/nowhere", headers=bearer("shop"))).status_code == 404
    assert (await scoped.client.get("/api/nowhere", headers={"Authorization": "x"})).status_code == 401
    assert (await scoped.client.put("/api/rooms", headers=bearer("shop"))).status_code == 405
    options = await scoped.client.options("/api/rooms/lobby/messages", headers=bearer("ops"))
    assert "POST" in options.headers["Allow"]
    for method, path, _ in IN_ROOMS:
        content = {"json": {"type": "note"}} if method == "POST" else {}
        assert (await scoped.client.request(method, path, **content)).status_code == 200


async def test_each_room_of_many_is_checked(scoped):
    rooms = ["orders.1", "secret", "lobby", "a/b"]
    answer = await scoped.client.post(
        "/api/broadcast", headers=bearer("shop"), json={"rooms": rooms, "message": {"type": "note"}}
    )
    assert answer.status_code == 200
    outcomes = [result.get("error", {}).get("code") for result in answer.json()["results"]]
    assert outcomes == [None, "forbidden", None, "invalid_message"]
    lines = b"".join(
        msgspec.json.encode({"room": room, "id": room, "message": {"type": "note"}}) + b"\n" for room in rooms
    )
    answer = await scoped.client.post(
        "/api/messages",
        headers={**bearer("shop"), "Content-Type": "application/x-ndjson"},
        content=lines,
    )
    results = [json.loads(line) for line in answer.text.splitlines()]
    assert [result.get("error", {}).get("code") for result in results] == outcomes
    assert [result["id"] for result in results] == rooms
    details = results[1]["error"]["message"]
    assert details == "the API key shop may not do this: it lacks the scope publish in this room"
    assert [info.room for info in scoped.rooms.list_here(limit=9)] == ["lobby", "orders.1"]
    named = [fields.get("key_name") for _, _, fields in scoped.log.refused]
    assert named == ["shop"] * 4


async def test_metrics_with_a_key_are_for_those_who_read_everything(open_world):
    statuses = {"reader": 200, "watcher": 403, "ops": 403, "http.api_key": 200}
    async with open_world(http={**HTTP, "metrics_key": "a-key-of-the-scraper"}) as world:
        for name, status in statuses.items():
            assert (await world.client.get("/metrics", headers=bearer(name))).status_code == status, name


async def test_the_log_names_the_keys(open_world):
    tables = [{**TABLES[0], "previous_key": "key-of-old-poster-1"}, *TABLES[1:]]
    async with open_world(http={"api_keys": tables}) as world:
        posts = "/api/rooms/lobby/messages"
        for authorization in [bearer("poster")] * 3 + [{"Authorization": "Bearer key-of-old-poster-1"}] * 2:
            assert (
                await world.client.post(posts, headers=authorization, json={"type": "a"})
            ).status_code == 200
        assert world.log.lines == [
            ("info", "API key in use", {"is_previous": False, "key_name": "poster"}),
            ("info", "API key in use", {"is_previous": True, "key_name": "poster"}),
        ]
        await world.client.delete("/api/users/ann", headers=bearer("ops"))
        assert world.log.lines[3] == (
            "info",
            "admin call",
            {"method": "DELETE", "route": "/api/users/<user>", "key_name": "ops"},
        )
        await world.client.delete("/api/users/ann", headers=bearer("shop"))
        await world.client.post(posts, headers=bearer("shop"), json={})
        refusals = [
            (fields["why"], fields["key_name"], fields["status"]) for _, _, fields in world.log.refused
        ]
        assert refusals == [("api_key_scope", "shop", 403), ("invalid_message", "shop", 400)]
        # The single key has no name, and its lines are as they were.
        count = len(world.log.lines)
        await world.client.delete("/api/users/ann")
        await world.client.post(posts, json={})
        assert len(world.log.lines) == count
        assert "key_name" not in world.log.refused[-1][2]
        everything = repr((world.log.lines, world.log.refused))
        assert not [key for key in (*KEYS.values(), "key-of-old-poster-1") if key in everything]


BROADCAST = "POST /api/broadcast HTTP/1.1"


def test_both_ways_of_a_post_decide_alike():
    scripts = {}
    for name in ("shop", "reader", "both", "http.api_key"):
        header = f"Authorization: Bearer {KEYS[name]}"
        requests = [
            post(start=f"POST /api/rooms/{room}/messages HTTP/1.1", key=header)
            for room in ("orders.7", "lobby", "order%73.7", "%00", "lobby")
        ]
        content = b'{"rooms":["orders.7","x","lobby"],"message":{"type":"note"}}'
        requests += [post(start=BROADCAST, key=header, body=content), post(key=header, body=b"{}")]
        parts = [
            b'{"room":"%b","message":{"type":"note"}}\n' % room for room in (b"orders.7", b"x", b"lobby")
        ]
        requests.append(lines(*parts, key=header))
        scripts |= {f"{name}, {index}": [request] for index, request in enumerate(requests)}
        scripts[name] = [b"".join(requests)]
    found = compare(scripts, settings={"http": {**SETTINGS["http"], **HTTP}})
    # Posts that a key does not allow are not answered in the fast path.
    assert [found[f"shop, {index}"].fast_answers for index in range(8)] == [1, 1, 1, 0, 1, 1, 1, 1]
    assert found["shop"].statuses == [200, 200, 200, 403, 200, 200, 400, 200]
    assert found["reader"].statuses == [403] * 8
    assert found["both"].statuses == [200, 403, 200, 403, 403, 200, 403, 200]
    assert found["http.api_key"].statuses == [200, 200, 200, 400, 200, 200, 400, 200]


def test_a_key_that_is_taken_away_while_its_post_comes_in_was_good_at_the_head():
    def take_away(world):
        world.services.api_keys.replace(HttpSettings(api_key=API_KEY))

    body = b'{"rooms":["lobby"],"message":{"type":"note"}}'
    request = post(start=BROADCAST, key=f"Authorization: Bearer {KEYS['poster']}", body=body)
    scripts = {"cut": [request[: -len(body)], take_away, body, request]}
    assert compare(scripts, settings={"http": {**SETTINGS["http"], **HTTP}})["cut"].statuses == [200, 401]
