"""The two ways that a post is answered: in the fast path, or by hypercorn and Quart alone. What each does, side by side."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import attrs
import trio
import trio.testing

from broker.auth.api_keys import Caller
from broker.engine.memory import MemoryEngine
from broker.http.plain_post import Answer, Call, Part, PlainPost, PostAnswers
from tests.http.conftest import World, open_world_with
from tests.support.secrets import API_KEY as KEY

BODY = b'{"type":"note","n":1}'
PATH = "/api/rooms/lobby/messages"
KEEP_ALIVE_SECONDS = 20
REQUEST_SECONDS = 30
SETTINGS: Mapping[str, Any] = {
    "http": {"keep_alive_seconds": KEEP_ALIVE_SECONDS, "request_seconds": REQUEST_SECONDS, "body_bytes": 2000}
}

Step: TypeAlias = bytes | float | str | Callable[[World], None]
"""Bytes to send, seconds to wait, "eof" to end the client's side, or a call."""


def post(
    *headers: str,
    body: bytes = BODY,
    start: str = f"POST {PATH} HTTP/1.1",
    host: str = "Host: test",
    key: str = f"Authorization: Bearer {KEY}",
    content_type: str = "Content-Type: application/json",
    length: str | None = None,
) -> bytes:
    """Return a request; an empty text leaves a header out, and no length is the body's."""
    if length is None:
        length = f"Content-Length: {len(body)}"
    lines = [line for line in (start, host, key, content_type, *headers, length) if line]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def lines(*parts: bytes, headers: Sequence[str] = (), **changes: str) -> bytes:
    """Return a request with lines; `changes` are arguments of `post`."""
    kept = {"start": "POST /api/messages HTTP/1.1", "content_type": "Content-Type: application/x-ndjson"}
    return post(*headers, body=b"".join(parts), **(kept | changes))


@attrs.define
class CountingPosts:
    """Counts what the fast path answers."""

    inner: PostAnswers | None = None
    answers: int = 0

    def wrap(self, posts: PostAnswers) -> PostAnswers:
        self.inner = posts
        return self

    def admit(self, post: PlainPost) -> Caller | None:
        return self.inner.admit(post)

    async def answer(self, call: Call, content: bytes) -> Answer:
        self.answers += 1
        return await self.inner.answer(call, content)

    async def answer_lines(self, call: Call, content: bytes, send: Callable[[Part], Awaitable[None]]) -> bool:
        is_answered = await self.inner.answer_lines(call, content, send)
        self.answers += is_answered
        return is_answered

    def answer_too_slow(self, call: Call) -> Answer:
        self.answers += 1
        return self.inner.answer_too_slow(call)


@attrs.frozen
class Seen:
    """The observable results of one run: for the client, for operators, and in the rooms."""

    received: list[tuple[float, bytes]]
    """What came at which second, and at last b"" at that of the end."""
    requests: dict[str, float]
    refusals: dict[str, int]
    refused_lines: list[dict[str, object]]
    log: list[tuple[str, str, str]]
    rooms: dict[str, list[bytes]]
    """The last events of each room."""
    fast_answers: int = attrs.field(eq=False)

    @property
    def statuses(self) -> list[int]:
        """The statuses of all answers."""
        everything = b"".join(data for _, data in self.received)
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", everything)]


async def run(world: World, steps: Sequence[Step], counting: CountingPosts | None) -> Seen:
    """Play the client's steps, then wait until the server closes the connection."""
    lines, refused_lines = len(world.log.lines), len(world.log.refused)
    answers = 0 if counting is None else counting.answers
    client = world.served.dial()
    began = trio.current_time()
    received: dict[float, bytes] = {}

    async def read() -> None:
        while True:
            try:
                data = await client.stream.receive_some(1_000_000)
            except trio.BrokenResourceError:
                data = b""
            at = round(trio.current_time() - began, 3)
            received[at] = received.get(at, b"") + data
            if not data:
                received[at] += b"<end>"
                return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for step in steps:
            try:
                await play(world, client, step)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                break
    await client.stream.aclose()
    await world.served.wait_no_connection()
    return Seen(
        received=[(at, _masked(data)) for at, data in received.items()],
        requests=_requests(world),
        refusals=dict(world.services.refusals.counts),
        refused_lines=world.log.refused[refused_lines:],
        log=[(level, event, str(fields.get("route"))) for level, event, fields in world.log.lines[lines:]],
        rooms=await _rooms(world),
        fast_answers=0 if counting is None else counting.answers - answers,
    )


async def play(world: World, client: Any, step: Step) -> None:
    """Do what a step says, and let the server do its part."""
    match step:
        case bytes():
            await client.stream.send_all(step)
        case "eof":
            await client.stream.send_eof()
        case float() | int():
            await trio.sleep(step)
        case _ if callable(step):
            step(world)
    await trio.testing.wait_all_tasks_blocked()


def compare(
    scripts: Mapping[str, Sequence[Step]],
    *,
    make_engine: Callable[[], MemoryEngine] | None = None,
    settings: Mapping[str, Any] = SETTINGS,
    before: Callable[[World], Any] | None = None,
) -> dict[str, Seen]:
    """Play scripts one after another on a server with the fast path, and on one without, both in virtual time.

    Returns what was seen, after it was found to be the same.
    """

    async def see(counting: CountingPosts | None) -> dict[str, Seen]:
        engine = None if make_engine is None else make_engine()
        wrap_posts = counting.wrap if counting is not None else lambda _posts: None
        async with open_world_with(engine=engine, wrap_posts=wrap_posts, **settings) as world:
            if before is not None:
                await before(world)
            return {name: await run(world, steps, counting) for name, steps in scripts.items()}

    with_fast_path, without = (
        trio.run(see, counting, clock=trio.testing.MockClock(autojump_threshold=0))
        for counting in (CountingPosts(), None)
    )
    for name, seen in without.items():
        for field in attrs.fields(Seen):
            if field.eq:
                assert getattr(with_fast_path[name], field.name) == getattr(seen, field.name), (
                    name,
                    field.name,
                )
    return with_fast_path


def _masked(data: bytes) -> bytes:
    data = re.sub(rb"date: [^\r]+", b"date: D", data)
    data = re.sub(rb'"epoch":"[0-9a-f]+"', b'"epoch":"E"', data)
    # Which results go into one chunk is left to chance, and means nothing (RFC 9112 section 7.1).
    return re.sub(rb"(?:(?<=\n)\r\n)?(?<![^\n])[0-9a-f]+\r\n(?=\{)", b"", data)


def _requests(world: World) -> dict[str, float]:
    return {
        f"{sample.name}{sorted(sample.labels.items())}": round(sample.value, 3)
        for metric in world.services.requests.registry.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


async def _rooms(world: World) -> dict[str, list[bytes]]:
    found = {}
    for info in world.rooms.list_here(limit=100):
        # An engine that fails or is stuck shows nothing on either way.
        with trio.move_on_after(1), suppress(Exception):
            events = (await world.rooms.read(info.room, None, 10, reverse=True)).events
            # The header has the tags, and who does not get it.
            found[info.room] = [b"%d %b %a" % (event.offset, event.content, event.header) for event in events]
    return found
