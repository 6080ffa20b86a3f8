"""Every connection comes to its end, whatever its client and the application do, and whichever of them goes first.

Nothing may wait for ever for a queue that nobody empties: a connection that does keeps its descriptor for good.
"""

import struct
from pathlib import Path

import pytest
import trio
import trio.testing
from quart_trio import QuartTrio

from broker.config.settings import HttpSettings
from broker.engine.memory import MemoryEngine
from tests.http.conftest import wait_until
from tests.http.ways import PATH, post
from tests.http.ways import lines as post_lines
from tests.support.patience import PATIENCE_SECONDS

RESET = struct.pack("ii", 1, 0)  # SO_LINGER without patience: closing resets the connection
OFFER = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
GET = "GET {path} HTTP/1.1\r\nHost: t\r\n"
BODY = "POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: 200000\r\n\r\n" + "x" * 200_000

REQUESTS = {
    "a websocket": GET + OFFER + KEY + "\r\n",
    "a websocket with a message behind it": GET + OFFER + KEY + "\r\n" + "\x81\x00" * 50,
    "a websocket without a key": GET + OFFER + "\r\n",
    "a websocket of an old version": GET + OFFER.replace("13", "8") + KEY + "\r\n",
    "a websocket over HTTP/1.0": GET.replace("1.1", "1.0") + OFFER + KEY + "\r\n",
    "a request": GET + "\r\n",
    "a request with a body": BODY,
    "half a body": BODY[:-50_000],
    "a request behind another": (GET + "\r\n") * 3,
    "a request to be the last": GET + "Connection: close\r\n\r\n" + GET + "\r\n",
    "nonsense behind a request": GET + "\r\nnonsense\r\n\r\n",
    "half a chunk": GET.replace("GET", "POST") + "Transfer-Encoding: chunked\r\n\r\nff\r\nxx",
    "no chunk": GET.replace("GET", "POST") + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
}


async def fail(scope, receive, send):
    raise RuntimeError("before its first event")


async def leave(scope, receive, send):
    """End before its first event."""


async def refuse(scope, receive, send):
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})
    else:
        await send({"type": "http.response.start", "status": 403, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})


async def accept(scope, send):
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})


async def accept_and_leave(scope, receive, send):
    await accept(scope, send)


async def accept_and_fail(scope, receive, send):
    await accept(scope, send)
    raise RuntimeError("in the midst")


async def send_for_ever(scope, receive, send):
    """Send, and never ask for an event: a WebSocket's end is told by a failing send."""
    await accept(scope, send)
    kind = {"type": "websocket.send", "text": "x" * 1000}
    if scope["type"] == "http":
        kind = {"type": "http.response.body", "body": b"x" * 1000, "more_body": True}
    while True:
        await send(kind)
        await trio.sleep(0.001)


async def wait_for_the_end(scope, receive, send):
    await accept(scope, send)
    while not (await receive())["type"].endswith("disconnect"):
        pass


async def wait_for_the_end_again_and_again(scope, receive, send):
    for _ in range(3):
        await wait_for_the_end(scope, receive, ignore)


async def ignore(event):
    """Send nothing."""


APPS = [
    fail,
    leave,
    refuse,
    accept_and_leave,
    accept_and_fail,
    send_for_ever,
    wait_for_the_end,
    wait_for_the_end_again_and_again,
]
ENDS = ["closes", "resets", "ends its side", "closes later"]


def with_lifespan(app):
    async def served(scope, receive, send):
        if scope["type"] != "lifespan":
            await app(scope, receive, send)

    return served


async def behave(client, request: str, end: str) -> None:
    """Send a request and be gone, in one of the ways there are."""
    try:
        await client.send(request.encode("latin-1"))
        if end == "resets":
            client.stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, RESET)
        elif end == "ends its side":
            await client.stream.send_eof()
            with trio.move_on_after(0.1):
                await client.rest()
        elif end == "closes later":
            with trio.move_on_after(0.1):
                await client.rest()
    except trio.BrokenResourceError:
        pass


def count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("app", APPS, ids=lambda app: app.__name__)
async def test_a_connection_to_an_application_beside_ends(serve, log, app, end):
    settings = HttpSettings(keep_alive_seconds=0.3, request_seconds=5)
    async with serve(QuartTrio("none"), settings, log, with_lifespan(app)) as served:
        before = count_descriptors()
        for request in REQUESTS.values():
            async with served.connect() as client:
                await behave(client, request.format(path="/x"), end)
        await served.wait_no_connection(seconds=60)
        assert count_descriptors() == before
    failures = [fields["exc_info"] for level, _, fields in log.lines if level == "error"]
    assert all(isinstance(failure, RuntimeError) for failure in failures), log.lines


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    "path", ["/", "/health", "/ws", "/ws/lobby", "/api/rooms/lobby", "/api/messages", "/x"]
)
async def test_a_connection_to_ours_ends(open_world, path, end):
    async with open_world(http={"keep_alive_seconds": 0.3, "request_seconds": 5}) as world:
        await world.client.aclose()
        await world.served.wait_no_connection()
        before = count_descriptors()
        for request in REQUESTS.values():
            async with world.connect() as client:
                await behave(client, request.format(path=path), end)
        await world.served.wait_no_connection(seconds=60)
        assert count_descriptors() == before
    assert world.log.lines == []


@pytest.mark.parametrize("request_name", [name for name in REQUESTS if "websocket" in name])
@pytest.mark.parametrize("app", [fail, leave, refuse, accept_and_leave], ids=lambda app: app.__name__)
async def test_a_websocket_whose_application_has_ended_is_closed_by_the_server(serve, log, app, request_name):
    """Also if the client would stay, which has no reason to read or write any more."""
    async with (
        serve(QuartTrio("none"), HttpSettings(), log, with_lifespan(app)) as served,
        served.connect() as client,
    ):
        await client.send(REQUESTS[request_name].format(path="/x").encode("latin-1"))
        await served.wait_no_connection(seconds=60)


@pytest.mark.parametrize("request_name", REQUESTS)
async def test_a_stop_ends_idle_connections_after_any_requests(serve, log, request_name):
    """Within the drain, not at its end: nothing aborts them."""
    async with serve(QuartTrio("none"), HttpSettings(), log, with_lifespan(refuse)) as served:
        async with served.connect() as client:
            await client.send(REQUESTS[request_name].format(path="/x").encode("latin-1"))
            await trio.testing.wait_all_tasks_blocked(0.01)
            served.http.begin_stop()
            with trio.move_on_after(0.5):
                await client.rest()
        await served.wait_no_connection(seconds=60)


async def test_a_stop_ends_a_connection_with_more_requests_waiting(serve, log):
    go_on, began = trio.Event(), trio.Event()

    async def slow(scope, receive, send):
        began.set()
        await go_on.wait()
        await refuse(scope, receive, send)

    async with (
        serve(QuartTrio("none"), HttpSettings(), log, with_lifespan(slow)) as served,
        served.connect() as client,
    ):
        await client.send(b"GET /x HTTP/1.1\r\nHost: t\r\n\r\n" * 100)
        await began.wait()
        served.http.begin_stop()
        go_on.set()
        with trio.fail_after(60):
            assert (await client.head())[0] == 403
        await served.wait_no_connection(seconds=60)


@pytest.mark.parametrize("is_websocket", [False, True])
async def test_a_stop_at_once_ends_an_application_that_takes_nothing(serve, log, is_websocket):
    async def deaf(scope, receive, send):
        await accept(scope, send)
        await trio.sleep_forever()

    async with serve(QuartTrio("none"), HttpSettings(), log, with_lifespan(deaf)) as served:
        async with served.connect() as client:
            name = "a websocket with a message behind it" if is_websocket else "a request with a body"
            await client.send(
                GET.format(path="/x") + OFFER + KEY + "\r\n" if is_websocket else REQUESTS[name]
            )
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(served.http) == 1
        served.http.abort()
        await served.wait_no_connection(seconds=60)


async def test_an_application_that_goes_on_without_its_websocket_keeps_no_descriptor(serve, log):
    async def deaf(scope, receive, send):
        await accept(scope, send)
        await trio.sleep_forever()

    async with serve(QuartTrio("none"), HttpSettings(), log, with_lifespan(deaf)) as served:
        before = count_descriptors()
        async with served.connect() as client:
            await client.send(REQUESTS["a websocket"].format(path="/x"))
            await client.head()
        await wait_until(lambda: count_descriptors() == before, seconds=60)
        assert len(served.http) == 1


async def test_an_application_is_not_waited_for_that_does_not_take_its_stop(serve, log):
    async def deaf(scope, receive, send):
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.complete"})
            await trio.sleep_forever()

    with trio.fail_after(60):
        async with serve(QuartTrio("none"), HttpSettings(), log, deaf):
            pass
    assert [event for _, event, _ in log.lines] == ["application failed to stop"]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_publisher_that_ends_its_side_gets_its_answer(open_world, version, api_key):
    async with open_world() as world:
        head = f"Host: t\r\nAuthorization: Bearer {api_key}\r\n"
        publish = (
            f'POST /api/rooms/lobby/messages HTTP/{version}\r\n{head}Content-Length: 12\r\n\r\n{{"type":"n"}}'
        )
        line = '{"room":"lobby","message":{"type":"n"}}\n'
        lines = f"POST /api/messages HTTP/1.1\r\n{head}Content-Length: {len(line) * 9}\r\n\r\n" + line * 9
        look = f"GET /api/rooms HTTP/{version}\r\n{head}\r\n"
        for request, marks in [
            (publish, [b'"offset":1']),
            (lines, [b'"offset":10']),
            (look, [b'"lobby"']),
            (publish * 2, [b'"offset":11', b'"offset":12']),
        ][: 4 if version == "1.1" else 3]:
            async with world.connect() as client:
                await client.send(request)
                await client.stream.send_eof()
                answer = await client.rest(seconds=60)
                assert answer.startswith(b"HTTP/1.1 200"), answer
                assert all(mark in answer for mark in marks), answer
        await world.served.wait_no_connection()
    assert world.log.lines == []


@pytest.mark.parametrize("credential", ["key", "token"])
async def test_an_event_stream_ends_when_its_client_ends_its_side(open_world, credential, api_key):
    async with open_world(heartbeat_seconds=3600) as world:
        presented = api_key if credential == "key" else world.token("ann")
        async with world.connect() as client:
            await client.send(
                f"GET /api/rooms/lobby/events HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {presented}\r\n\r\n"
            )
            await client.until(b"joined")
            await client.stream.send_eof()
            await world.served.wait_no_connection(seconds=60)
        assert len(world.connections) == 0


NDJSON = "POST /api/messages HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {key}\r\n"
FRAMINGS = {
    "length": NDJSON + "Content-Length: 1000000\r\n\r\n{lines}",
    "chunked": NDJSON + "Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{lines}\r\n",
    "in a chunk": NDJSON + "Transfer-Encoding: chunked\r\n\r\n{more:x}\r\n{lines}",
    "broken": NDJSON + "Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{lines}\r\nzz\r\n",
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_an_upload_that_is_broken_off_is_no_failure_of_ours(open_world, framing, end, api_key):
    lines = '{"room":"lobby","message":{"type":"n"}}\n' * 200 + '{"room":'
    async with open_world() as world:
        upload = FRAMINGS[framing].format(key=api_key, lines=lines, size=len(lines), more=len(lines) + 9)
        for wait_for in [None] if framing == "broken" else [None, b'"line":1', b'"line":200']:
            async with world.connect() as client:
                await client.send(upload)
                if wait_for is not None:
                    await client.until(wait_for)
                await behave(client, "", end)
        await world.served.wait_no_connection(seconds=60)
    assert [line for line in world.log.lines if line[0] != "info"] == []


class WaitingEngine(MemoryEngine):
    """Never answers an append."""

    def __init__(self):
        super().__init__(wall_clock=lambda: 1_700_000_000.0, idempotency_seconds=300)
        self.began = trio.Event()

    def append_nowait(self, room, draft, retention, after):
        return None

    async def append(self, room, drafts, retention):
        self.began.set()
        await trio.sleep_forever()


@pytest.mark.parametrize(
    ("has_fast_path", "request_bytes", "is_first"),
    [
        (True, post(), True),
        (True, post(), False),
        (True, post() + b"GET /health HTTP/1.1\r\n", True),
        (True, post_lines(b'{"room":"lobby","message":{"type":"n"}}\n'), True),
        (False, post(), True),
        (False, post(), False),
    ],
)
async def test_a_post_that_waits_for_its_engine_ends_with_the_connection_of_its_client(
    open_world, has_fast_path, request_bytes, is_first
):
    engine = WaitingEngine()
    wrap_posts = (lambda posts: posts) if has_fast_path else (lambda _posts: None)
    # Later than the test would end: the time limit of the answer is not what ends it.
    limits = {"request_seconds": 10 * PATIENCE_SECONDS, "keep_alive_seconds": 10 * PATIENCE_SECONDS}
    async with open_world(engine=engine, wrap_posts=wrap_posts, http=limits) as world:
        async with world.connect() as client:
            if not is_first:
                await client.send(post(start=f"POST {PATH}?ephemeral=x HTTP/1.1"))
                assert (await client.response())[0] in (400, 422)
            await client.send(request_bytes)
            with trio.fail_after(PATIENCE_SECONDS):
                await engine.began.wait()
            client.stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, RESET)
        await world.served.wait_no_connection()
        assert world.log.lines == []


@pytest.mark.parametrize("has_fast_path", [True, False])
async def test_a_post_that_waits_goes_on_though_its_client_has_ended_its_side(open_world, has_fast_path):
    class Slow(WaitingEngine):
        go_on = trio.Event()

        async def append(self, room, drafts, retention):
            self.began.set()
            await self.go_on.wait()
            return await MemoryEngine.append(self, room, drafts, retention)

    engine = Slow()
    wrap_posts = (lambda posts: posts) if has_fast_path else (lambda _posts: None)
    async with open_world(engine=engine, wrap_posts=wrap_posts) as world, world.connect() as client:
        await client.send(post())
        await client.stream.send_eof()
        with trio.fail_after(PATIENCE_SECONDS):
            await engine.began.wait()
        engine.go_on.set()
        assert (await client.response())[0] == 200
