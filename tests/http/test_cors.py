"""Pages of other origins, and the headers that every answer has."""

import pytest

PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


async def ask(world, origin, path="/api/rooms"):
    return await world.client.get(path, headers={"Origin": origin})


async def test_no_other_origin_is_allowed_by_default(world):
    response = await ask(world, "https://a.example")
    assert not [name for name in response.headers if name.startswith("access-control")]
    response = await world.client.options("/api/rooms", headers={"Origin": "https://a.example", **PREFLIGHT})
    assert not [name for name in response.headers if name.startswith("access-control")]


async def test_an_allowed_origin_may_read_answers_and_errors(open_world):
    async with open_world(http={"cors_origins": ["https://a.example"]}) as world:
        for path in ["/api/rooms", "/api/rooms?limit=0", "/api/nothing"]:
            response = await ask(world, "https://a.example", path)
            assert response.headers["Access-Control-Allow-Origin"] == "https://a.example"
            assert response.headers["Vary"] == "Origin"
            assert "Retry-After" in response.headers["Access-Control-Expose-Headers"]
            assert "Access-Control-Allow-Credentials" not in response.headers
        response = await ask(world, "https://b.example")
        assert "Access-Control-Allow-Origin" not in response.headers
        assert response.headers["Vary"] == "Origin"
        # What is not the API is not for other pages.
        assert "Access-Control-Allow-Origin" not in (await ask(world, "https://a.example", "/")).headers


async def test_a_preflight_needs_no_key(open_world):
    async with open_world(http={"cors_origins": ["https://a.example"]}) as world:
        world.client.headers.clear()
        headers = {"Origin": "https://a.example", **PREFLIGHT}
        response = await world.client.options("/api/rooms/lobby/messages", headers=headers)
        assert response.status_code == 204
        assert response.headers["Access-Control-Allow-Origin"] == "https://a.example"
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
        allowed = response.headers["Access-Control-Allow-Headers"]
        assert all(name in allowed for name in ["Authorization", "Content-Type", "Idempotency-Key"])
        response = await world.client.options(
            "/api/rooms/lobby/messages", headers={**headers, "Origin": "https://b.example"}
        )
        assert "Access-Control-Allow-Methods" not in response.headers


async def test_any_origin_can_be_allowed(open_world):
    async with open_world(http={"cors_origins": ["*"]}) as world:
        response = await ask(world, "https://a.example")
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert "Vary" not in response.headers


@pytest.mark.parametrize("path", ["/", "/health", "/api/rooms", "/nothing"])
async def test_answers_are_not_to_be_guessed_at_nor_kept(world, path):
    response = await world.client.get(path)
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["Cache-Control"] == ("no-cache" if path == "/" else "no-store")
    assert "Server" not in response.headers
