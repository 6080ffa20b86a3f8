"""Request bodies over real sockets: too large, too slow, cut short, or sent although nobody wants them."""

import trio


async def test_a_body_over_the_limit_is_a_413(open_world):
    async with open_world(http={"body_bytes": 100}) as world:
        response = await world.client.post("/api/rooms/a/messages", json={"type": "x", "text": "x" * 100})
        assert response.status_code == 413
        assert "100 bytes" in response.json()["detail"]
        exact = b'{"type":"x","t":"' + b"x" * 81 + b'"}'
        assert len(exact) == 100
        assert (await world.client.post("/api/rooms/a/messages", content=exact)).status_code == 200


async def test_a_chunked_body_over_the_limit_is_a_413(open_world):
    async def generate():
        for _ in range(200):
            yield b"x"

    async with open_world(http={"body_bytes": 100}) as world:
        response = await world.client.post("/api/rooms/a/messages", content=generate())
        assert response.status_code == 413


async def test_the_answer_to_a_huge_body_arrives(world):
    async with world.connect() as client:
        await client.request("POST", "/api/rooms/a/messages", "Content-Length: 5000000")

        async def upload() -> None:
            for _ in range(5):
                await client.send(b"x" * 1_000_000)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(upload)
            assert (await client.response())[0] == 413


async def test_an_announced_body_over_the_limit_is_answered_at_once_and_without_a_reset(world):
    async with world.connect() as client:
        await client.request("POST", "/api/rooms/a/messages", "Content-Length: 5000000")
        await client.until(b"HTTP/1.1 413")
        await client.send(b"x" * 50_000)
        assert b"body_bytes" in await client.rest()
        # The server has closed its side, and reads on for a while, so that the answer is not lost.
        for _ in range(20):
            await client.send(b"x" * 50_000)
    await world.served.wait_no_connection()


async def test_a_body_that_dribbles_in_is_a_408(open_world):
    async with open_world(http={"request_seconds": 0.3}) as world, world.connect() as client:
        await client.request("POST", "/api/rooms/a/messages", "Content-Length: 100")
        await client.send(b'{"type"')
        status, headers, body = await client.response()
        assert status == 408
        assert headers["content-type"] == "application/problem+json"
        assert b"too long" in body
        assert await client.rest() == b""


async def test_a_body_that_ends_early_is_forgotten(world):
    async with world.connect() as client:
        await client.request("POST", "/api/rooms/a/messages", "Content-Length: 100")
        await client.send(b'{"type":"x"}')
    await world.served.wait_no_connection()
    assert (await world.say("a", 1))["offset"] == 1
    assert world.log.lines == []


async def test_a_client_that_waits_for_a_go_ahead_gets_it(world):
    async with world.connect() as client:
        await client.request("POST", "/api/rooms/a/messages", "Content-Length: 12", "Expect: 100-continue")
        assert (await client.head())[0] == 100
        await client.send(b'{"type":"x"}')
        assert (await client.response())[0] == 200


async def test_a_body_where_none_is_wanted_does_no_harm(world):
    async with world.connect() as client:
        await client.request("GET", "/health", body=b"x" * 300_000)
        assert (await client.response())[0] == 200
    async with world.connect() as client:
        await client.request("GET", "/health", body=b"small")
        assert (await client.response())[0] == 200
