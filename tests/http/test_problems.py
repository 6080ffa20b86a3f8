"""Error answers: always a problem document."""

import time

import attrs
import pytest
import trio

from broker.engine.memory import MemoryEngine
from broker.errors import CloseCode, Disconnect
from broker.refusals import LINES_PER_ADDRESS, WINDOW_SECONDS


def check_problem(response, status):
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["title"]
    assert "<" not in problem["detail"]
    return problem


async def test_an_unknown_path_is_a_404(world):
    for path in [
        "/nothing",
        "/api",
        "/api/",
        "/api/rooms/",
        "/api/rooms//messages",
        "/api/rooms/a/b/messages",
    ]:
        check_problem(await world.client.get(path), 404)


async def test_a_wrong_method_is_a_405(world):
    response = await world.client.put("/api/rooms/a/messages")
    check_problem(response, 405)
    assert {"GET", "POST"} <= set(response.headers["Allow"].split(", "))
    check_problem(await world.client.request("BREW", "/health"), 405)


async def test_a_failure_is_a_500_and_one_line_of_the_log(open_world):
    class Broken(MemoryEngine):
        async def wait_ready(self):
            raise ZeroDivisionError("the inside story")

    async with open_world(engine=Broken(wall_clock=time.time, idempotency_seconds=300)) as world:
        response = await world.client.get("/ready")
        check_problem(response, 500)
        assert "inside" not in response.text
        (line,) = world.log.lines
        assert line[:2] == ("error", "request failed")
        assert line[2]["route"] == "/ready"
        assert isinstance(line[2]["exc_info"], ZeroDivisionError)


async def fail(*_arguments, **_options):
    raise ZeroDivisionError


class Failing(MemoryEngine):
    """An engine, a publisher and an application, all of whose calls fail."""

    wait_ready = publish = __call__ = staticmethod(fail)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/ready"), ("POST", "/api/rooms/lobby/messages"), ("GET", "/beside")],
    ids=["a route", "a plain post", "an application beside"],
)
async def test_lines_of_failures_are_bounded_whatever_fails(open_world, autojump_clock, method, path):
    failing = Failing(wall_clock=time.time, idempotency_seconds=300)
    async with open_world(
        engine=failing, beside=failing, wrap_posts=lambda posts: attrs.evolve(posts, publisher=failing)
    ) as world:
        client = world.served.dial()
        for seconds in (0, WINDOW_SECONDS + 1):
            await trio.sleep(seconds)
            for _ in range(4 * LINES_PER_ADDRESS):
                await client.request(method, path, "Content-Type: application/json", body=b'{"type":"note"}')
                assert (await client.response())[0] == 500
        lines = [line for line in world.log.lines if line.event == "request failed"]
        assert len(lines) == 2 * LINES_PER_ADDRESS
        not_logged = [line.fields.get("not_logged") for line in lines]
        assert [count for count in not_logged if count] == [3 * LINES_PER_ADDRESS]


@pytest.mark.parametrize("code", CloseCode)
async def test_every_close_code_is_a_problem_and_none_is_a_failure(open_world, code):
    class Ending(MemoryEngine):
        async def wait_ready(self):
            raise Disconnect(code, "why it ends")

    status = {CloseCode.UNAUTHORIZED: 401, CloseCode.FORBIDDEN: 403, CloseCode.TOO_MANY: 429}.get(code, 503)
    async with open_world(engine=Ending(wall_clock=time.time, idempotency_seconds=300)) as world:
        problem = check_problem(await world.client.get("/ready"), status)
        assert problem["detail"] == "why it ends"
        assert not world.log.lines


@pytest.mark.parametrize("path", ["/ws", "/ws/lobby", "/ws/a/b"])
async def test_a_websocket_address_asks_for_an_upgrade(world, path):
    response = await world.client.get(path)
    check_problem(response, 426)
    assert response.headers["Upgrade"] == "websocket"
    assert response.headers["Connection"] == "Upgrade"


async def test_a_websocket_elsewhere_is_refused(world):
    async with world.connect() as client:
        await client.request(
            "GET",
            "/elsewhere",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        )
        assert (await client.head())[0] == 404
    assert world.log.lines == []


@pytest.mark.parametrize("host", ["a b", "[", "\xff", "", "a,b", "x" * 1000, "a:99999", "a/b", "<script>"])
async def test_an_odd_host_header_does_no_harm(world, host):
    async with world.connect() as client:
        await client.send(b"GET /health HTTP/1.1\r\nHost: " + host.encode("latin-1") + b"\r\n\r\n")
        status, _, _ = await client.response()
        assert status in {200, 400}
    assert world.log.lines == []


@pytest.mark.parametrize(
    "target", ["?x", "*", "//health", "/%", "/%zz", "/%00", "http://[/", "x", "/health?%ff=%", "/a?\x7f"]
)
async def test_an_odd_target_does_no_harm(world, target):
    for method in ["GET", "OPTIONS", "CONNECT"]:
        async with world.connect() as client:
            await client.send(f"{method} {target} HTTP/1.1\r\nHost: t\r\n\r\n")
            status, _, _ = await client.response()
            assert status < 500
    assert world.log.lines == []
