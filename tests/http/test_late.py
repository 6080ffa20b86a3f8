"""A server whose port is open before Quart and hypercorn are imported."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from broker.assembly import open_assembly
from broker.http.app import create_app
from broker.http.hosting.serving import HttpServer, open_http
from broker.http.late import LateHttp, open_late
from broker.http.probes import ProbeAnswers
from broker.http.services import HttpServices
from broker.transport.byte_stream import MemoryByteStream
from broker.transport.streams import ReplayStream
from tests.http.conftest import RawClient, make_settings
from tests.support.logs import RecordingLog
from tests.support.patience import PATIENCE_SECONDS

PROBES = ("/health", "/ready")
CLOSING = "Connection: close\r\n"


@attrs.define
class Late:
    """The HTTP side of a server; its application is there once `imported` is set."""

    http: LateHttp
    services: HttpServices
    imported: trio.Event
    draining: trio.Event
    nursery: trio.Nursery

    async def ask(self, target: str, fields: str = "", *, method: str = "GET") -> RawClient:
        """Send a request on a new connection, and let the server do what it can at once."""
        ours, theirs = memory_stream_pair()
        self.nursery.start_soon(self.http.serve, ReplayStream(MemoryByteStream(theirs, "10.0.0.1"), b""))
        client = RawClient(ours)
        await client.send(f"{method} {target} HTTP/1.1\r\nHost: test\r\n{fields}\r\n")
        await wait_all_tasks_blocked()
        return client

    def counted(self, route: str) -> float | None:
        """How many requests of a route were answered with 200."""
        labels = {"method": "GET", "route": route, "status": "200"}
        return self.services.requests.registry.get_sample_value("greenroom_http_requests_total", labels)


@pytest.fixture
async def late() -> AsyncIterator[Late]:
    settings, log, imported = make_settings(), RecordingLog(), trio.Event()

    async with open_assembly(settings, log=log) as assembly:

        @asynccontextmanager
        async def opening() -> AsyncIterator[HttpServer]:
            await imported.wait()
            app = create_app(assembly.http)
            async with open_http(app, settings.http, log, posts=app.plain_posts) as http:
                yield http

        answers = ProbeAnswers(assembly.http)
        async with (
            open_late(answers, opening, write_seconds=settings.http.request_seconds) as http,
            trio.open_nursery() as nursery,
        ):
            yield Late(http, assembly.http, imported, assembly.draining, nursery)
            imported.set()
            http.abort()
            nursery.cancel_scope.cancel()


async def answer_to(client: RawClient) -> bytes:
    """Return a whole answer of JSON, without its date."""
    answer = await client.until(b"}")
    return re.sub(rb"\r\ndate: [^\r]*", b"", answer)


@pytest.mark.parametrize("path", PROBES)
@pytest.mark.parametrize("fields", ["", CLOSING, "Accept: */*\r\nUser-Agent: kube-probe/1.33\r\n"])
async def test_probes_are_answered_before_and_as_afterwards(late, path, fields):
    before = await answer_to(await late.ask(path, fields))
    late.imported.set()
    await wait_all_tasks_blocked()
    after = await answer_to(await late.ask(path, fields))
    assert before.startswith(b"HTTP/1.1 200 \r\n")
    assert before == after
    assert late.counted(path) == 2


async def test_a_request_of_anything_else_waits_and_is_answered(late):
    page = await late.ask("/")
    absent = await late.ask("/nowhere")
    assert late.counted("/") is None
    late.imported.set()
    assert (await page.head())[0] == 200
    assert (await absent.head())[0] == 404


@pytest.mark.parametrize(
    ("target", "fields", "method"),
    [
        ("/health", "Authorization: Bearer x\r\n", "GET"),
        ("/health", "Content-Length: 0\r\n", "GET"),
        ("/health", "Transfer-Encoding: chunked\r\n", "GET"),
        ("/health", "Connection: upgrade\r\n", "GET"),
        ("/health", "", "HEAD"),
        ("/health?a=b", "", "GET"),
        ("/health", "\r\nGET /health HTTP/1.1\r\nHost: test\r\n", "GET"),
    ],
)
async def test_a_probe_that_is_not_plain_is_left_to_the_application(late, target, fields, method):
    client = await late.ask(target, fields, method=method)
    assert late.counted("/health") is None
    late.imported.set()
    if "chunked" in fields:
        await client.send("0\r\n\r\n")
    assert (await client.head())[0] == 200


async def test_a_connection_goes_on_behind_its_probe(late):
    client = await late.ask("/health")
    assert b'{"status":"ok"}' in await answer_to(client)
    await client.send("GET /openapi HTTP/1.1\r\nHost: test\r\n\r\n")
    late.imported.set()
    assert (await client.head())[0] == 404


async def test_a_connection_that_is_to_be_closed_is_closed_behind_its_probe(late):
    client = await late.ask("/health", CLOSING)
    assert (await client.rest()).endswith(b'\r\nConnection: close\r\n\r\n{"status":"ok"}')


async def test_a_server_that_is_not_ready_says_so_before(late):
    late.draining.set()
    client = await late.ask("/ready")
    status, _, body = await client.response()
    assert (status, body) == (503, b'{"status":"not ready","reasons":["draining"]}')


async def test_a_server_that_stops_before_answers_all_and_closes(late):
    waiting, idle = await late.ask("/"), await late.ask("/health")
    await idle.response()
    late.http.begin_stop()
    for client, expected in ((waiting, 503), (await late.ask("/"), 503), (await late.ask("/health"), 200)):
        status, headers, _ = await client.response()
        assert (status, headers["connection"]) == (expected, "close")
        assert await client.rest() == b""
    assert await idle.rest() == b""


async def test_a_server_that_stops_before_takes_no_request_afterwards(late):
    late.http.begin_stop()
    late.imported.set()
    await wait_all_tasks_blocked()
    assert await (await late.ask("/")).rest() == b""


async def test_a_stop_does_not_wait_for_the_imports():
    @asynccontextmanager
    async def opening() -> AsyncIterator[HttpServer]:
        await trio.sleep_forever()
        yield

    async with open_assembly(make_settings(), log=RecordingLog()) as assembly:
        with trio.fail_after(PATIENCE_SECONDS):
            async with open_late(ProbeAnswers(assembly.http), opening, write_seconds=1.0) as http:
                http.begin_stop()


async def test_an_application_that_cannot_be_opened_ends_the_server():
    @asynccontextmanager
    async def opening() -> AsyncIterator[HttpServer]:
        await trio.lowlevel.checkpoint()
        raise ImportError("half an installation")
        yield

    async with open_assembly(make_settings(), log=RecordingLog()) as assembly:
        with pytest.RaisesGroup(pytest.RaisesExc(ImportError, match="half")):
            async with open_late(ProbeAnswers(assembly.http), opening, write_seconds=1.0):
                await trio.sleep_forever()
