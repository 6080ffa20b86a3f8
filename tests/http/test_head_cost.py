"""A request without credentials costs in proportion to the size of its head, whatever repeats there.

Counted in calls of Python and C functions: loops over a head show in them, on a busy machine as on an idle one. The
expressions of `re` that Werkzeug matches paths and headers with repeat single classes of characters, which end where
the next part begins. Idempotency keys and bodies are read after the API key was checked.
"""

import sys
from types import FrameType
from typing import Any
from urllib.parse import unquote

import pytest
import trio

SIZES = (8192, 16_384)
MOST_PER_DOUBLING = 2.3
FIXED = 500
"""Calls that do not go by the size."""

UNITS = [
    "/",
    "a/",
    "%",
    "%ff",
    "%41",
    "&",
    "a=&",
    "token=a&",
    "a",
    ",",
    "a,",
    "a;",
    "a;q=0.1,",
    '"',
    '",',
    "; ",
    "a=b; ",
    " a",
    "\\",
]
HEADERS = ["cookie", "accept", "accept-encoding", "content-type", "range", "if-none-match", "authorization", "origin", "last-event-id", "idempotency-key", "x-forwarded-for"]  # fmt: skip
TARGETS = [
    "/",
    "/api/rooms/",
    "/api/rooms/a/events?",
    "/web/console/",
    "/ws/",
    "/greenroom.js?",
    "//",
    "http://",
    "/metrics?",
]


async def count_calls(app: Any, target: str, headers: list[tuple[bytes, bytes]]) -> int:
    path, _, query = target.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "method": "GET",
        "path": unquote(path), "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(b"host", b"a"), *headers], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        "state": {}, "extensions": {},
    }  # fmt: skip
    statuses = []
    is_received = False

    async def receive() -> dict[str, object]:
        nonlocal is_received
        if is_received:
            await trio.sleep_forever()
        is_received = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(event: dict[str, Any]) -> None:
        statuses.append(event.get("status"))

    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(note)
    try:
        await app(scope, receive, send)
    finally:
        sys.setprofile(None)
    assert statuses[0] < 500
    return count


@pytest.mark.parametrize("place", [*TARGETS, *HEADERS])
async def test_twice_the_size_costs_twice_as_much(world, place):
    costs = {}
    for unit in UNITS:
        for size in (64, *SIZES):  # the first for what is made once
            worst = unit * (size // len(unit))
            is_header = place in HEADERS
            target = "/greenroom.js" if is_header else place + worst
            headers = [(place.encode(), worst.encode())] if is_header else []
            costs[unit, size] = await count_calls(world.served.app, target, headers)
    growth = {unit: costs[unit, SIZES[1]] / (costs[unit, SIZES[0]] + FIXED) for unit in UNITS}
    assert {unit: by for unit, by in growth.items() if by > MOST_PER_DOUBLING} == {}
