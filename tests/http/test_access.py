"""The authorization of calls."""

import time

import pytest

from broker.engine.memory import MemoryEngine
from tests.support.secrets import API_KEY

OPEN = {
    "/health",
    "/ready",
    "/metrics",
    "/openapi.json",
    "/web/openapi.json",
    "/asyncapi.json",
    "/web/asyncapi.json",
    "/schema/greenroom.v1.json",
    "/",
    "/web/console",
    "/web/console/<name>",
    "/greenroom.js",
    "/greenroom.d.ts",
    "/ws",
    "/ws/<path:room>",
}


def rules(world):
    for rule in world.served.app.url_map.iter_rules():
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            path = rule.rule.replace("<room>", "lobby").replace("<user>", "ann").replace("<name>", "main.js")
            yield rule.rule, method, path.replace("<path:room>", "lobby")


@pytest.mark.parametrize(
    "authorization", [None, "Bearer wrong", "Basic YTpi", "Bearer", "Bearer \xff", "an-api-key-of-the-tests"]
)
async def test_every_route_of_the_api_wants_the_key(world, authorization):
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
    world.client.headers.clear()
    tried = 0
    for rule, method, path in rules(world):
        if rule in OPEN:
            continue
        assert rule.startswith("/api/")
        response = await world.client.request(method, path, headers=headers)
        assert response.status_code == 401, rule
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="greenroom"'
        assert response.headers["Content-Type"] == "application/problem+json"
        tried += 1
    assert tried == 20


async def test_everything_else_is_open(world):
    world.client.headers.clear()
    for rule, method, path in rules(world):
        if rule in OPEN:
            assert (await world.client.request(method, path)).status_code in {200, 426}


async def test_a_client_token_is_no_api_key(world):
    headers = {"Authorization": f"Bearer {world.token()}"}
    assert (await world.client.get("/api/rooms", headers=headers)).status_code == 401
    assert (
        await world.client.get(f"/api/rooms?token={world.token()}", headers={"Authorization": "x"})
    ).status_code == 401


async def test_secrets_are_in_no_log(open_world, api_key):
    class Broken(MemoryEngine):
        async def wait_ready(self):
            raise ZeroDivisionError

    async with open_world(engine=Broken(wall_clock=time.time, idempotency_seconds=300)) as world:
        token = world.token()
        response = await world.client.get(f"/ready?token={token}")
        assert response.status_code == 500
        assert [event for _, event, _ in world.log.lines] == ["request failed"]
        assert token not in str(world.log.lines)
        assert api_key not in str(world.log.lines)


METRICS_KEY = "a-key-of-the-scraper"


@pytest.mark.parametrize(
    ("presented", "status"),
    [
        (None, 401),
        ("Bearer", 401),
        ("Bearer wrong", 401),
        (f"Basic {METRICS_KEY}", 401),
        (f"Bearer {METRICS_KEY}", 200),
        (f"Bearer {API_KEY}", 200),
    ],
)
async def test_metrics_with_a_key_are_for_its_bearers(open_world, presented, status):
    async with open_world(http={"metrics_key": METRICS_KEY}) as world:
        world.client.headers.clear()
        response = await world.client.get(
            "/metrics", headers={} if presented is None else {"Authorization": presented}
        )
        assert response.status_code == status
        assert ("greenroom_rooms" in response.text) is (status == 200)


async def test_the_key_for_metrics_opens_nothing_else(open_world):
    async with open_world(http={"metrics_key": METRICS_KEY}) as world:
        headers = {"Authorization": f"Bearer {METRICS_KEY}"}
        assert (await world.client.get("/api/rooms", headers=headers)).status_code == 401
