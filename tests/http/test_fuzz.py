"""Requests that nobody would send: none of them is a failure of the server."""

import json
from random import Random

import pytest

METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW"]
PIECES = [
    "api",
    "rooms",
    "messages",
    "broadcast",
    "users",
    "events",
    "lobby",
    "health",
    "ready",
    "metrics",
    "web",
    "ws",
]
ODD_PIECES = ["", "%", "%00", "%ff", "%2f", "..", "é", "x" * 200, "%F0%9F%98%80", "<b>", "{room}", "a:b"]
NAMES = [
    "limit",
    "since",
    "epoch",
    "reverse",
    "prefix",
    "cursor",
    "ephemeral",
    "token",
    "last_event_id",
    "offset",
]
VALUES = ["", "0", "1", "-1", "99999999999999999999", "1e3", "true", "null", "%ff", "%00", "a:1", "²", "[]"]
BODIES = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"\xff\xfe",
    b'{"type":"x"}',
    b'{"type":null}',
    b'{"type":"x","deep":' + b"[" * 3000 + b"]" * 3000 + b"}",
    b'{"rooms":["a","/"],"message":{"type":"x"}}',
    b'{"rooms":[1],"message":1}',
    b'{"room":"a","message":{"type":"x"},"id":99999999999999999999999}\n{"room":"a","message":{"type":"x"},"id":-0.5}',
    b'{"room":"\\ud800","message":{"type":"\\ud800"}}',
]
HEADERS = [
    ("Content-Type", ["application/json", "text/html", "application/x-ndjson", "", ";;", "a/b; c=\xe9"]),
    ("Idempotency-Key", ["k", "", "\xe9", "x" * 500]),
    ("Last-Event-ID", ["e:1", "\xe9", "e:99999999999999999999"]),
    ("Authorization", ["", "Bearer", "Bearer \xff", "Basic x", "bearer  an-api-key-of-the-tests"]),
    ("If-None-Match", ["*", '"', ""]),
    ("Range", ["bytes=0-1", "bytes=9-", "x"]),
    ("Accept", ["text/html", ""]),
    ("Origin", ["null", "https://a.example"]),
    ("Cookie", ["session=x", "a=b; ; =;"]),
    ("X-HTTP-Method-Override", ["DELETE"]),
]


def draw_request(random):
    pieces = [
        random.choice(PIECES if random.random() < 0.8 else ODD_PIECES) for _ in range(random.randint(0, 5))
    ]
    query = "&".join(f"{random.choice(NAMES)}={random.choice(VALUES)}" for _ in range(random.randint(0, 3)))
    headers = {
        name.encode(): random.choice(values).encode("latin-1")
        for name, values in HEADERS
        if random.random() < 0.15
    }
    target = "/" + "/".join(pieces) + (f"?{query}" if query else "")
    return random.choice(METHODS), target, headers, random.choice(BODIES)


@pytest.mark.parametrize("seed", range(4))
async def test_odd_requests_are_answered(world, seed):
    random = Random(seed)
    for _ in range(150):
        method, target, headers, body = draw_request(random)
        async with world.client.stream(method, target, headers=headers, content=body) as response:
            assert response.status_code < 500, (method, target, headers, body)
            if response.headers.get("Content-Type", "").startswith("text/event-stream"):
                continue
            answer = await response.aread()
        if response.status_code >= 400 and method != "HEAD":
            assert response.headers["Content-Type"] == "application/problem+json", (method, target)
            assert json.loads(answer)["status"] == response.status_code
    assert world.log.lines == []
