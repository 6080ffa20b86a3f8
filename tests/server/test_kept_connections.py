"""A WebSocket may begin on any request of a connection: proxies keep connections and send whatever comes over them."""

import json
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import product
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.peers import RawPeer, handshake, text_of
from tests.support.secrets import API_KEY
from tests.support.served import Served

LONGEST_SECONDS = 60.0
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")

PUBLISH = json.dumps({"type": "news"}).encode()
HEAD_OF_POST = (
    "POST /api/rooms/lobby/messages HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    f"Authorization: Bearer {API_KEY}\r\n"
).encode()
BEFORE = {
    "get": b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
    "not found": b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n",
    "content": HEAD_OF_POST + b"Content-Length: %d\r\n\r\n" % len(PUBLISH) + PUBLISH,
    "chunks": HEAD_OF_POST
    + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(PUBLISH), PUBLISH),
    "other upgrade": b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
}
"""Requests that leave a connection open."""


def status_of(head: str) -> int:
    return int(head.split(" ")[1])


@asynccontextmanager
async def dial(served: Served) -> AsyncIterator[trio.SocketStream]:
    host, port = served.url.removeprefix("http://").split(":")
    stream = await trio.open_tcp_stream(host, int(port))
    async with stream:
        yield stream


class KeptPeer(RawPeer):
    """A peer that asks one thing after another over one connection."""

    received = b""

    async def read_response(self) -> int:
        """Return the status of the next response, and take its content."""
        with trio.fail_after(LONGEST_SECONDS):
            while b"\r\n\r\n" not in self.received:
                self.received += await self._receive()
            head, _, self.received = self.received.partition(b"\r\n\r\n")
            lines = head.decode().lower().split("\r\n")[1:]
            size = int(dict(line.split(": ", 1) for line in lines).get("content-length", "0"))
            while len(self.received) < size:
                self.received += await self._receive()
            self.received = self.received[size:]
        return status_of(head.decode())

    async def read_upgrade(self) -> int:
        """Return the status of the next response, behind which frames come."""
        status = await self.read_response()
        self.protocol.receive_data(self.received)
        return status

    async def _receive(self) -> bytes:
        data = bytes(await self.stream.receive_some())
        assert data, f"ended after {self.received!r}"
        return data


def upgrade_of(served: Served, user: str = "ann") -> bytes:
    return handshake(f"/ws/lobby?token={served.token(user)}")


@pytest.mark.parametrize("is_pipelined", [False, True])
@pytest.mark.parametrize(
    "before",
    [(), *product(BEFORE), ("get",) * 5, ("content", "get", "chunks", "not found", "content")],
    ids=lambda names: ",".join(names) or "nothing",
)
async def test_a_websocket_begins_on_any_request(serve, before, is_pipelined):
    """Every request before it is answered first, and the frames behind it are heard."""
    async with serve() as served, dial(served) as stream:
        peer = KeptPeer(stream)
        upgrade = upgrade_of(served) + text_of(type="chat", text="behind", id="1")
        if is_pipelined:
            await peer.send(b"".join(BEFORE[name] for name in before) + upgrade)
        for name in before:
            if not is_pipelined:
                await peer.send(BEFORE[name])
            assert await peer.read_response() == (404 if name == "not found" else 200)
        if not is_pipelined:
            await peer.send(upgrade)
        assert await peer.read_upgrade() == 101
        assert (await peer.read_message())["type"] == "joined"
        assert (await peer.read_message())["type"] == "user_joined"
        texts = [(await peer.read_message()).get("text") for _ in range(2)]
        assert texts == ["behind", None], "the message and its ack"
        # The fast path and trio-websocket are at it as on any other connection.
        await peer.send(text_of(type="chat", text="later"))
        assert (await peer.read_message())["text"] == "later"


@pytest.mark.parametrize("size", [1, 7, 100])
async def test_a_request_and_an_upgrade_in_pieces(serve, size):
    async with serve() as served, dial(served) as stream:
        peer = KeptPeer(stream)
        data = BEFORE["content"] + upgrade_of(served) + text_of(type="chat", text="behind")
        for start in range(0, len(data), size):
            await peer.send(data[start : start + size])
            await wait_all_tasks_blocked()
        assert await peer.read_response() == 200
        assert await peer.read_upgrade() == 101
        assert [(await peer.read_message())["type"] for _ in range(3)] == ["joined", "user_joined", "chat"]


SMUGGLED = {
    "content": lambda inner: (
        b"POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(inner), inner)
    ),
    "chunk": lambda inner: (
        b"POST /none HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
        % (len(inner), inner)
    ),
    "content of another upgrade": lambda inner: (
        b"POST /none HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: %d\r\n\r\n%b"
        % (len(inner), inner)
    ),
}


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("way", SMUGGLED)
async def test_a_handshake_within_content_is_content(serve, way, is_first):
    async with serve() as served, dial(served) as stream:
        peer = KeptPeer(stream)
        if not is_first:
            await peer.send(BEFORE["get"])
            assert await peer.read_response() == 200
        await peer.send(SMUGGLED[way](upgrade_of(served)) + BEFORE["get"])
        assert await peer.read_response() == 404
        assert await peer.read_response() == 200
        assert served.broker.statistics().connections == 0


AMBIGUOUS = {
    "two lengths": "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "content with a handshake": "Content-Length: 5\r\n\r\nhello",
    "chunks with a handshake": "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("way", AMBIGUOUS)
async def test_a_handshake_with_content_is_refused_and_the_connection_closed(serve, way, is_first):
    async with serve() as served, dial(served) as stream:
        peer = KeptPeer(stream)
        if not is_first:
            await peer.send(BEFORE["get"])
            assert await peer.read_response() == 200
        head = upgrade_of(served)[:-2]
        await peer.send(head + AMBIGUOUS[way].encode() + BEFORE["get"])
        answer = await peer.read_eof()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1") == 1


async def test_a_kept_connection_drains_like_any_other(serve):
    async with serve() as served, dial(served) as stream:
        peer = KeptPeer(stream)
        await peer.send(BEFORE["get"])
        assert await peer.read_response() == 200
        await peer.send(upgrade_of(served))
        assert await peer.read_upgrade() == 101
        served.broker.begin_drain()
        assert await peer.read_code() == 1012


async def test_an_application_that_is_busy_behind_its_answer_holds_up_no_websocket(serve):
    go_on, is_done = trio.Event(), trio.Event()

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})
        await go_on.wait()
        is_done.set()

    async with serve(app=app) as served, dial(served) as stream:
        peer = KeptPeer(stream)
        await peer.send(b"GET /theirs HTTP/1.1\r\nHost: a\r\n\r\n" + upgrade_of(served))
        assert await peer.read_response() == 200
        assert await peer.read_upgrade() == 101
        assert (await peer.read_message())["type"] == "joined"
        await stream.aclose()
        go_on.set()
        with trio.fail_after(LONGEST_SECONDS):
            await is_done.wait()


@asynccontextmanager
async def nginx_before(served: Served, directory: Path) -> AsyncIterator[int]:
    """Run nginx with the configuration that its manual has for WebSockets; yields its port.

    It inherits its listening socket, so that the port is the kernel's choice and connecting never fails.
    """
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.set_inheritable(True)
        port = listening.getsockname()[1]
        paths = "".join(
            f"{kind}_temp_path {directory}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (directory / "nginx.conf").write_text(f"""
            daemon off; pid {directory}/pid; error_log {directory}/errors;
            events {{}}
            http {{
                access_log off; {paths}
                map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
                upstream greenroom {{ server {served.url.removeprefix("http://")}; keepalive 16; }}
                server {{
                    listen 127.0.0.1:{port};
                    location / {{
                        proxy_pass http://greenroom;
                        proxy_http_version 1.1;
                        proxy_set_header Host $host;
                        proxy_set_header Upgrade $http_upgrade;
                        proxy_set_header Connection $connection_upgrade;
                    }}
                }}
            }}
        """)
        command = [
            str(NGINX),
            "-p",
            str(directory),
            "-c",
            str(directory / "nginx.conf"),
            "-e",
            str(directory / "errors"),
        ]
        async with trio.open_nursery() as nursery:
            await nursery.start(
                partial(
                    trio.run_process,
                    command,
                    env=os.environ | {"NGINX": f"{listening.fileno()};"},
                    pass_fds=[listening.fileno()],
                    stderr=None,
                )
            )
            yield port
            nursery.cancel_scope.cancel()


@pytest.mark.skipif(NGINX is None, reason="there is no nginx")
async def test_websockets_behind_an_nginx_that_keeps_its_connections(serve, tmp_path):
    async with serve() as served, nginx_before(served, tmp_path) as port:
        sockets = []
        for number in range(6):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                client = KeptPeer(stream)
                for name in ("get", "content", "not found"):
                    await client.send(BEFORE[name])
                    assert await client.read_response() in {200, 404}
            peer = KeptPeer(await trio.open_tcp_stream("127.0.0.1", port))
            await peer.send(upgrade_of(served, f"user{number}"))
            assert await peer.read_upgrade() == 101
            assert (await peer.read_message())["type"] == "joined"
            sockets.append(peer)
        # Each WebSocket took over the one connection that nginx had kept from the requests before.
        statistics = served.broker.statistics()
        assert statistics.sockets + statistics.sockets_closed == len(sockets)
        await sockets[0].send(text_of(type="chat", text="to all"))
        for peer in sockets:
            while (await peer.read_message()).get("text") != "to all":
                pass
        for peer in sockets:
            await peer.stream.aclose()
