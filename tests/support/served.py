"""A whole broker on a free port, in this process, and clients from others."""

import contextlib
import json
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from random import Random

import attrs
import httpx2
import msgspec
import pytest
import trio
import websockets.trio.client
from websockets.exceptions import ConnectionClosed

from broker import Broker, open_broker
from broker.auth.mint import mint_token
from broker.config.settings import Settings
from tests.certificates import Authority
from tests.support.patience import PATIENCE_SECONDS
from tests.support.secrets import API_KEY, SECRET

ANSWERS_OF_ALL_NODES = {"nodes_seconds": PATIENCE_SECONDS / 2}
"""HTTP settings with which a slow machine makes no node silent."""


class Client:
    """A WebSocket client from PyPI that speaks JSON."""

    def __init__(self, connection: websockets.trio.client.ClientConnection) -> None:
        self.connection = connection
        self._came_before_an_answer: deque[dict] = deque()

    async def send(self, **message: object) -> None:
        await self.connection.send(json.dumps(message))

    async def receive(self, kind: str | None = None) -> dict:
        """Return the next message, or the next of a kind."""
        with trio.fail_after(PATIENCE_SECONDS):
            while True:
                message = await self._next()
                if kind is None or message["type"] == kind:
                    return message

    async def ask(self, kind: str, **message: object) -> dict:
        """Send a request and return its answer; messages that come before it are received afterwards.

        An ack and its own event may come in either order, so an answer must not swallow the event.
        """
        await self.send(**message)
        with trio.fail_after(PATIENCE_SECONDS):
            while (answer := json.loads(await self.connection.recv()))["type"] != kind:
                self._came_before_an_answer.append(answer)
        return answer

    async def _next(self) -> dict:
        if self._came_before_an_answer:
            return self._came_before_an_answer.popleft()
        return json.loads(await self.connection.recv())

    async def close_code(self) -> tuple[int, str]:
        """Read to the end and return how the server closed."""
        with trio.fail_after(PATIENCE_SECONDS), pytest.raises(ConnectionClosed) as closed:
            await self._read_to_the_end()
        frame = closed.value.rcvd
        assert frame is not None, "closed without a close frame"
        return frame.code, frame.reason

    async def _read_to_the_end(self) -> None:
        while True:
            await self.connection.recv()


@attrs.frozen
class Served:
    """A broker that is being served; clients trust `tls`."""

    broker: Broker
    url: str
    http: httpx2.AsyncClient
    tls: ssl.SSLContext | None = None

    def token(self, user_id: str, *, now: float | None = None, **claims: object) -> str:
        return mint_token(
            secret=SECRET,
            algorithm="HS256",
            user_id=user_id,
            ttl_seconds=60,
            now=time.time() if now is None else now,
            **claims,
        )

    @contextlib.asynccontextmanager
    async def connect(self, path: str, user_id: str = "ann", **claims: object) -> AsyncIterator[Client]:
        async with self.dial(f"{path}?token={self.token(user_id, **claims)}") as client:
            yield client

    @contextlib.asynccontextmanager
    async def dial(self, target: str, **options: object) -> AsyncIterator[Client]:
        url = self.url.replace("http", "ws", 1) + target
        async with websockets.trio.client.connect(url, ssl=self.tls, **options) as connection:
            yield Client(connection)


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture
def serve() -> Serve:
    """Return what opens a broker with some settings changed: `serve(websocket={"ping_seconds": 1})`.

    `parts` are the keyword arguments of `open_broker` by which a program brings parts of its own.
    """
    return make_serve()


def make_serve(authority: Authority | None = None) -> Serve:
    """Return such a function; with an authority the port speaks TLS, with a certificate that it has signed."""
    certificate = {}
    if authority is not None:
        pair = authority.issue()
        certificate = {"tls_cert_file": str(pair.certificate), "tls_key_file": str(pair.key)}
    tls = None if authority is None else authority.client_context()

    @contextlib.asynccontextmanager
    async def opened(
        *, app: object = None, parts: dict | None = None, **sections: dict
    ) -> AsyncIterator[Served]:
        tables: dict = {
            "server": {"port": 0, "drain_seconds": 0.2, **certificate},
            "auth": {},
            "http": ANSWERS_OF_ALL_NODES,
        }
        for section, values in sections.items():
            tables[section] = {**tables.get(section, {}), **values} if isinstance(values, dict) else values
        tables["auth"]["secret"] = SECRET
        tables["http"] = {**tables["http"], "api_key": API_KEY}
        settings = msgspec.convert(tables, Settings)
        opening = open_broker(settings, **{"random": Random(7), **(parts or {})})
        with trio.fail_after(PATIENCE_SECONDS):
            async with opening as broker, trio.open_nursery() as nursery:
                url = await nursery.start(partial(broker.serve, app=app))
                headers = {"Authorization": f"Bearer {API_KEY}"}
                async with httpx2.AsyncClient(
                    base_url=url, headers=headers, timeout=PATIENCE_SECONDS, verify=tls or True
                ) as http:
                    yield Served(broker, url, http, tls)
                broker.begin_drain()

    return opened
