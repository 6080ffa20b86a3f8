"""A whole broker without its WebSockets, over real sockets, and raw clients that can misbehave."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from random import Random
from typing import Any

import attrs
import httpx2
import msgspec
import pytest
import trio
from quart_trio import QuartTrio
from trio.testing import memory_stream_pair

from broker.assembly import open_assembly
from broker.auth.mint import mint_token
from broker.config.settings import HttpSettings, Settings
from broker.engine.base import Engine
from broker.http.app import GreenroomApp, create_app
from broker.http.hosting.serving import HttpServer, open_http
from broker.http.plain_post import PostAnswers
from broker.http.services import HttpServices
from broker.refusals import Refusals
from broker.room_actors import RoomActor
from broker.rooms.directory import Rooms
from broker.sessions.connections import Connections
from broker.transport.byte_stream import MemoryByteStream, SocketByteStream
from broker.transport.head import find_fault
from broker.transport.streams import ReplayStream
from tests.support.logs import RecordingLog
from tests.support.patience import PATIENCE_SECONDS
from tests.support.secrets import API_KEY, SECRET


async def wait_until(check: Callable[[], bool], *, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something that tells nobody when it happens."""
    with trio.fail_after(seconds):
        while True:
            if check():
                return
            await trio.sleep(0.01)


@attrs.define
class Served:
    """An application on a port."""

    app: QuartTrio
    http: HttpServer
    port: int
    scopes: set[trio.CancelScope]
    nursery: trio.Nursery
    head_bytes: int

    def dial(self) -> "RawClient":
        """Connect over a stream in memory, for tests in virtual time."""
        ours, theirs = memory_stream_pair()
        check_head = partial(find_fault, max_bytes=self.head_bytes)
        connection = ReplayStream(MemoryByteStream(theirs, "10.0.0.1"), b"", check_head=check_head)
        self.nursery.start_soon(self.http.serve, connection)
        return RawClient(ours)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> AbstractAsyncContextManager["RawClient"]:
        return open_raw_client(self.port)

    async def wait_no_connection(self, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until no connection is served any more."""
        await wait_until(lambda: not len(self.http), seconds=seconds)

    def cancel_connections(self) -> None:
        """Cancel the tasks that serve connections."""
        for scope in self.scopes:
            scope.cancel()


@attrs.define
class RawClient:
    """A socket, and what has come over it."""

    stream: trio.abc.HalfCloseableStream
    received: bytearray = attrs.Factory(bytearray)

    async def send(self, text: str | bytes) -> None:
        await self.stream.send_all(text.encode() if isinstance(text, str) else text)

    async def request(self, method: str, target: str, *headers: str, body: bytes | None = None) -> None:
        """Send a request with the API key; without a body, none is announced."""
        lines = [f"{method} {target} HTTP/1.1", "Host: test", f"Authorization: Bearer {API_KEY}", *headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        await self.send("\r\n".join([*lines, "", ""]).encode() + (body or b""))

    async def until(self, mark: bytes, *, seconds: float = PATIENCE_SECONDS) -> bytes:
        """Return what has come up to and with `mark`, and take it."""
        searched = 0
        with trio.fail_after(seconds):
            while (end := self.received.find(mark, searched)) < 0:
                searched = max(0, len(self.received) - len(mark))
                data = await self.stream.receive_some(65_536)
                assert data, f"ended without {mark!r}: {bytes(self.received)!r}"
                self.received += data
        taken = bytes(self.received[: end + len(mark)])
        del self.received[: end + len(mark)]
        return taken

    async def head(self) -> tuple[int, dict[str, str]]:
        """Return the status and the headers of the next response."""
        lines = (await self.until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split(" ")[1]), headers

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        """Return the next response, which must have a Content-Length."""
        status, headers = await self.head()
        size = int(headers.get("content-length", "0"))
        with trio.fail_after(PATIENCE_SECONDS):
            while len(self.received) < size:
                self.received += await self.stream.receive_some(65_536)
        body = bytes(self.received[:size])
        del self.received[:size]
        return status, headers, body

    async def rest(self, *, seconds: float = PATIENCE_SECONDS) -> bytes:
        """Return everything until the server closes."""
        with trio.fail_after(seconds):
            while data := await self.stream.receive_some(65_536):
                self.received += data
        return bytes(self.received)


@asynccontextmanager
async def open_raw_client(port: int) -> AsyncIterator[RawClient]:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        yield RawClient(stream)


@asynccontextmanager
async def open_served(
    app: QuartTrio,
    settings: HttpSettings,
    log: RecordingLog,
    beside: Any = None,
    refusals: Refusals | None = None,
    *,
    wrap_posts: Callable[[PostAnswers], PostAnswers | None] = lambda posts: posts,
) -> AsyncIterator[Served]:
    """Serve an application; `wrap_posts` returns what answers plain posts, None for hypercorn and Quart alone."""
    async with (
        open_http(
            app,
            settings,
            log,
            beside=beside,
            refusals=refusals,
            posts=wrap_posts(app.plain_posts) if isinstance(app, GreenroomApp) else None,
        ) as http,
        trio.open_nursery() as handlers,
    ):
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]

        scopes: set[trio.CancelScope] = set()

        async def serve(stream: trio.SocketStream) -> None:
            with trio.CancelScope() as scope:
                scopes.add(scope)
                await http.serve(ReplayStream(SocketByteStream.accepted(stream), b""))
            scopes.discard(scope)

        async with trio.open_nursery() as accepting:

            async def accept() -> None:
                await trio.serve_listeners(serve, listeners, handler_nursery=handlers)

            accepting.start_soon(accept)
            yield Served(app, http, port, scopes, handlers, settings.head_bytes)
            accepting.cancel_scope.cancel()
        http.abort()
        handlers.cancel_scope.cancel()


@attrs.define
class World:
    """A broker's HTTP side with everything behind it."""

    services: HttpServices
    served: Served
    log: RecordingLog
    client: httpx2.AsyncClient
    clock: list[float]
    draining: trio.Event

    @property
    def rooms(self) -> Rooms:
        return self.services.rooms

    @property
    def connections(self) -> Connections:
        return self.services.connections

    def connect(self) -> AbstractAsyncContextManager[RawClient]:
        return self.served.connect()

    def token(self, user_id: str = "ann", ttl_seconds: float = 3600, **claims: Any) -> str:
        return mint_token(
            secret=SECRET,
            algorithm="HS256",
            user_id=user_id,
            ttl_seconds=ttl_seconds,
            now=self.clock[0],
            **claims,
        )

    async def say(self, room: str, number: int) -> dict[str, Any]:
        """Publish {"type": "note", "n": number} and return the answer."""
        response = await self.client.post(f"/api/rooms/{room}/messages", json={"type": "note", "n": number})
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer


def make_settings(**sections: Any) -> Settings:
    """Return settings with some keys changed: make_settings(http={"body_bytes": 100})."""
    plain: dict[str, Any] = {"auth": {"secret": SECRET}, "http": {"api_key": API_KEY}}
    for section, keys in sections.items():
        plain[section] = {**plain.get(section, {}), **keys} if isinstance(keys, dict) else keys
    return msgspec.convert(plain, Settings)


@asynccontextmanager
async def open_world_with(
    *,
    engine: Engine | None = None,
    beside: Any = None,
    heartbeat_seconds: float = 15.0,
    is_dev: bool = False,
    wrap_posts: Callable[[PostAnswers], PostAnswers | None] = lambda posts: posts,
    classes: Sequence[type[RoomActor[Any]]] = (),
    **sections: Any,
) -> AsyncIterator[World]:
    settings = make_settings(**sections)
    log, clock = RecordingLog(), [1_700_000_000.0]

    def wall_clock() -> float:
        return clock[0]

    opening = open_assembly(
        settings,
        log=log,
        engine=engine,
        wall_clock=wall_clock,
        boot_clock=wall_clock,
        dev=is_dev,
        rooms=classes,
    )
    async with opening as assembly:
        services = assembly.http
        app = create_app(services, heartbeat_seconds=heartbeat_seconds, random=Random(1))
        async with (
            open_served(app, settings.http, log, beside, services.refusals, wrap_posts=wrap_posts) as served,
            httpx2.AsyncClient(
                base_url=served.url, headers={"Authorization": f"Bearer {API_KEY}"}, timeout=PATIENCE_SECONDS
            ) as client,
        ):
            yield World(services, served, log, client, clock, assembly.draining)


@pytest.fixture
def api_key() -> str:
    return API_KEY


@pytest.fixture
def log() -> RecordingLog:
    return RecordingLog()


@pytest.fixture
def serve() -> Callable[..., AbstractAsyncContextManager[Served]]:
    """Serve an application: `async with serve(app, settings, log) as served`."""
    return open_served


@pytest.fixture
def open_world() -> Callable[..., AbstractAsyncContextManager[World]]:
    """Open a broker: `async with open_world(http={"body_bytes": 100}) as world`."""
    return open_world_with


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A broker with the settings as they are by default."""
    async with open_world_with() as world:
        yield world
