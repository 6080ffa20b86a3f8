"""No answer over HTTP holds the text of an engine's error."""

import json
from collections.abc import Callable
from contextlib import suppress

import httpx2
import pytest

from tests.engine.poison import ERRORS, MARK, SECRETS, PoisonedEngine

MESSAGE = json.dumps({"type": "note"})
ROOM = "/api/rooms/{room}"
REQUESTS = [
    ("POST", f"{ROOM}/messages", MESSAGE),
    ("POST", f"{ROOM}/messages?ephemeral=1", MESSAGE),
    ("GET", f"{ROOM}/messages", None),
    ("GET", f"{ROOM}/messages?limit=5&reverse=1", None),
    ("GET", ROOM, None),
    ("DELETE", f"{ROOM}/messages", None),
    ("GET", "/api/users", None),
    ("GET", "/api/users/ann", None),
    ("GET", f"{ROOM}/events", None),
    ("DELETE", f"{ROOM}/users/ann", None),
    ("DELETE", "/api/users/ann", None),
    ("POST", "/api/broadcast", '{"rooms":["{room}"],"message":{"type":"note"}}'),
    ("POST", "/api/messages", '{"room":"{room}","message":{"type":"note"},"id":"1"}\n'),
    ("GET", "/api/rooms", None),
    ("GET", "/api/node", None),
    ("GET", "/ready", None),
    ("GET", "/health", None),
    ("GET", "/metrics", None),
]


@pytest.mark.parametrize("make_error", ERRORS)
async def test_no_answer_holds_the_text_of_an_engines_error(open_world, make_error: Callable[[], Exception]):
    engine = PoisonedEngine()
    async with open_world(engine=engine) as world:
        await world.say("known", 1)
        engine.make_error = make_error
        statuses = set()
        for number, (method, target, body) in enumerate(REQUESTS):
            for room in ("known", f"new{number}"):
                is_lines = target == "/api/messages"
                kind = "application/x-ndjson" if is_lines else "application/json"
                # An event stream that opens would go on for ever; a fault of the engine breaks off a batch.
                async with world.client.stream(
                    method,
                    target.replace("{room}", room),
                    content=None if body is None else body.replace("{room}", room),
                    headers={"Content-Type": kind},
                ) as response:
                    text = ""
                    if response.status_code != 200 or "/events" not in target:
                        with suppress(httpx2.RemoteProtocolError):
                            text = (await response.aread()).decode()
                for secret in SECRETS:
                    assert secret not in text + str(response.headers), target
                statuses.add(response.status_code)
        assert 503 in statuses, "the engine failed"


async def test_an_open_event_stream_ends_without_the_text_of_an_engines_error(open_world):
    engine = PoisonedEngine()
    async with open_world(engine=engine) as world, world.connect() as client:
        await client.request("GET", "/api/rooms/lobby/events")
        await client.until(b'"joined"')
        engine.make_error = lambda: RuntimeError(MARK)
        for _ in range(10):  # until the room has failed often enough to be given up
            await world.client.post("/api/rooms/lobby/messages", json={"type": "note"})
        told = await client.until(b"event:close")
        told += await client.until(b"\n\n")
        assert MARK.encode() not in told


@pytest.mark.parametrize("make_error", ERRORS)
async def test_a_stream_that_ends_at_once_does_not_hold_the_text_of_an_engines_error(
    open_world, make_error: Callable[[], Exception]
):
    """A browser's EventSource is answered with a stream that tells why it ends."""
    engine = PoisonedEngine()
    engine.make_error = make_error
    async with open_world(engine=engine) as world:
        headers = {"Accept": "text/event-stream"}
        response = await world.client.get("/api/rooms/new/events", headers=headers)
        for secret in SECRETS:
            assert secret not in response.text
