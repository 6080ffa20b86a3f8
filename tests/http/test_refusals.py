"""Each refused request is counted by reason, and told with route and status, never with what the client chose."""

import json
import re

import pytest

from broker.errors import CloseCode
from tests.support.secrets import API_KEY

SECRET_WORD = "hunter2hunter2"


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


JSON = {"Content-Type": "application/json"}
MESSAGES = f"/api/rooms/{SECRET_WORD}/messages"

REQUESTS = {
    "no key": ("GET", "/api/rooms", {"Authorization": ""}, b"", "api_key_missing", 401),
    "a wrong key": ("GET", "/api/rooms", bearer(SECRET_WORD), b"", "api_key_wrong", 401),
    "no JSON": ("POST", MESSAGES, JSON, SECRET_WORD.encode(), "invalid_json", 400),
    "no type": ("POST", MESSAGES, JSON, json.dumps({"a": SECRET_WORD}).encode(), "invalid_message", 400),
    "too large": ("POST", MESSAGES, JSON, b"x" * 100_000, "http", 413),
    "another type": ("POST", MESSAGES, {"Content-Type": f"text/{SECRET_WORD}"}, b"{}", "http", 415),
    "no such path": ("GET", f"/{SECRET_WORD}", {}, b"", "http", 404),
    "no such method": ("DELETE", "/health", {}, b"", "http", 405),
    "a bad query": ("GET", f"/api/rooms?limit={SECRET_WORD}", {}, b"", "invalid_message", 400),
    "a bad room": ("GET", f"/api/rooms/{SECRET_WORD}%00", {}, b"", "invalid_message", 400),
    "a token that is none": (
        "GET",
        f"/api/rooms/{SECRET_WORD}/events?token={SECRET_WORD}",
        {"Authorization": ""},
        b"",
        "token_malformed",
        401,
    ),
    "no token": ("GET", "/api/rooms/lobby/events", {"Authorization": ""}, b"", "token_missing", 401),
}


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "why", "status"), REQUESTS.values(), ids=REQUESTS
)
async def test_a_refused_request_is_counted_and_told(world, method, path, headers, body, why, status):
    headers = {name: value for name, value in headers.items() if value}
    if ("Authorization" not in headers and why.endswith("_missing")) or why == "token_malformed":
        del world.client.headers["Authorization"]
    response = await world.client.request(method, path, headers=headers, content=body)
    assert response.status_code == status
    assert world.services.refusals.counts == {why: 1}
    [(_, _, fields)] = world.log.refused
    assert (fields["why"], fields["status"], fields["address"]) == (why, status, "127.0.0.1")
    assert fields["method"] == method
    assert fields["help"]
    assert SECRET_WORD not in repr(fields)
    assert world.log.lines == []
    metrics = (await world.client.get("/metrics")).text
    assert re.search(rf'^greenroom_refusals_total{{.*reason="{why}".*}} 1\.0$', metrics, re.MULTILINE)


async def test_answers_that_are_no_refusal_are_not_counted(world):
    await world.say("lobby", 1)
    await world.client.get("/health")
    world.draining.set()
    assert (await world.client.get("/ready")).status_code == 503
    assert world.services.refusals.counts == {}


async def test_refused_lines_and_rooms_of_one_request_are_counted_one_by_one(world):
    lines = b'nonsense\n{"room": "lobby", "message": {"type": "a"}}\n{"room": "", "message": {"type": "a"}}\n'
    response = await world.client.post(
        "/api/messages", content=lines, headers={"Content-Type": "application/x-ndjson"}
    )
    assert len(response.text.splitlines()) == 3
    assert world.services.refusals.counts == {"invalid_json": 1, "invalid_message": 1}
    await world.client.post("/api/broadcast", json={"rooms": ["a", "", "\0"], "message": {"type": "a"}})
    assert world.services.refusals.counts == {"invalid_json": 1, "invalid_message": 3}


SECOND_HEADS = {
    "nonsense": (b"nonsense\r\n\r\n", "bad_head"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", "bad_head"),
    "without a host": (b"GET / HTTP/1.1\r\n\r\n", "bad_head"),
    "too large": (b"GET / HTTP/1.1\r\nHost: t\r\na: %b" % (b"x" * 20_000), "head_too_large"),
    "a target too long": (b"GET /%b" % (b"x" * 20_000), "head_too_large"),
    "cut off": (b"GET / HTTP/1.1\r\nHo", "head_cut_off"),
}


@pytest.mark.parametrize(("head", "why"), SECOND_HEADS.values(), ids=SECOND_HEADS)
async def test_a_bad_head_behind_another_request_is_told_as_a_first_one_is(world, head, why):
    async with world.connect() as client:
        await client.send("GET /health HTTP/1.1\r\nHost: t\r\n\r\n")
        await client.until(b'"ok"')
        await client.send(head)
        await client.stream.send_eof()
        await client.until(b"HTTP/1.1 4")
    assert world.services.refusals.counts == {why: 1}
    assert [(line.event, line.fields["why"]) for line in world.log.refused] == [("bad request", why)]
    assert world.log.lines == []


UPLOADS = {
    "a length": "Content-Length: 1000\r\n\r\n{",
    "within a chunk": "Transfer-Encoding: chunked\r\n\r\n80\r\n{",
    "between chunks": "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    "within a chunk's size": "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n8",
    "without any": "Content-Length: 1000\r\n\r\n",
}


@pytest.mark.parametrize("rest", UPLOADS.values(), ids=UPLOADS)
@pytest.mark.parametrize("path", ["/api/rooms/lobby/messages", "/api/broadcast", "/api/messages"])
async def test_an_upload_that_its_client_breaks_off_is_no_refusal(world, path, rest):
    kind = "application/x-ndjson" if path == "/api/messages" else "application/json"
    async with world.connect() as client:
        await client.send(f"POST {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {API_KEY}\r\n")
        await client.send(f"Content-Type: {kind}\r\n{rest}")
        await client.stream.send_eof()
        await client.rest()
    assert world.services.refusals.counts == {}
    assert world.log.refused == []
    assert world.log.lines == []


async def test_chunks_that_are_none_are_no_fault_of_the_head(world):
    async with world.connect() as client:
        await client.send(f"POST {MESSAGES} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {API_KEY}\r\n")
        await client.send("Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        await client.until(b"HTTP/1.1 400")
    assert world.services.refusals.counts == {"http": 1}


@pytest.mark.parametrize("code", [CloseCode.REMOVED, CloseCode.TOO_SLOW, CloseCode.TOKEN_EXPIRED])
async def test_streams_that_the_server_ends_are_counted_by_code(world, code):
    async with world.connect() as client:
        await client.send(f"GET /api/rooms/lobby/events?token={world.token()} HTTP/1.1\r\nHost: t\r\n\r\n")
        await client.until(b'"joined"')
        for _ in range(2):
            world.connections.disconnect_user("ann", code, "reason")
        await client.until(b"event:close")
    assert world.services.refusals.closes == {str(int(code)): 1}
    expected = {CloseCode.TOO_SLOW: {"slow_reader": 1}, CloseCode.TOKEN_EXPIRED: {"token_expired": 1}}
    assert world.services.refusals.counts == expected.get(code, {})


async def test_a_user_over_the_limit_is_counted(open_world):
    async with open_world(limits={"connections_per_user": 1}) as world:
        target = f"/api/rooms/lobby/events?token={world.token()}"
        async with world.connect() as client:
            await client.send(f"GET {target} HTTP/1.1\r\nHost: t\r\n\r\n")
            await client.until(b'"joined"')
            del world.client.headers["Authorization"]
            assert (await world.client.get(target)).status_code == 429
        assert world.services.refusals.counts == {"user_full": 1}
