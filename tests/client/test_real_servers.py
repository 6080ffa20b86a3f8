"""The client against servers that are processes, killed and started again; and over TLS."""

import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random

import attrs
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from broker.auth.mint import mint_token
from broker.client import ClosedError, Position, connect
from tests.certificates import make_certificate
from tests.support.patience import PATIENCE_SECONDS
from tests.support.secrets import API_KEY, SECRET

ENVIRON = {
    "GREENROOM_SECRET": SECRET,
    "GREENROOM_API_KEY": API_KEY,
    "GREENROOM_SERVER__DRAIN_SECONDS": "1",
    "GREENROOM_LIMITS__MESSAGES_PER_SECOND": "10000",
    "GREENROOM_LIMITS__MESSAGES_BURST": "10000",
}


class Eager(Random):
    """Draws short delays."""

    def uniform(self, a: float, b: float) -> float:
        return min(b, 0.1)


def token(user_id: str) -> str:
    return mint_token(secret=SECRET, algorithm="HS256", user_id=user_id, ttl_seconds=300, now=time.time())


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@asynccontextmanager
async def server(port: int, path: Path) -> AsyncIterator[trio.Process]:
    """Run a server on a file from when it listens; killed at the end if it has not ended."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("GREENROOM_")}
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "broker", "serve", "--port", f"{port}", "--engine", f"sqlite:///{path}"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**others, **ENVIRON},
    )
    assert process.stderr is not None
    try:
        log = b""
        while b'"listening"' not in log:
            received = await process.stderr.receive_some()
            assert received, log
            log += received
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stderr.aclose()


@attrs.define(eq=False)
class Talk:
    """Somebody speaks and somebody listens, each over its own connection."""

    url: str
    count: int
    said: list[Position] = attrs.Factory(list)
    heard: list[tuple[str, int]] = attrs.Factory(list)
    listening: trio.Event = attrs.Factory(trio.Event)
    all_said: trio.Event = attrs.Factory(trio.Event)
    progress: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)

    async def speak(self) -> None:
        async with (
            connect(self.url, token=token("ann"), random=Eager()) as client,
            client.join("lobby") as room,
        ):
            for number in range(self.count):
                self.said += [await room.chat(f"{number}")]
        self.all_said.set()

    async def listen(self) -> None:
        async with (
            connect(self.url, token=token("bob"), random=Eager()) as client,
            client.join("lobby") as room,
        ):
            self.listening.set()
            while len(self.heard) < self.count:
                message = await anext(room)
                if message["type"] == "joined":
                    assert message["recovered"] or not self.heard
                elif message["type"] == "chat":
                    self.heard.append((message["text"], message["offset"]))
                    self.progress.unpark_all()

    async def wait_heard(self, count: int) -> None:
        while len(self.heard) < count:
            await self.progress.park()


async def test_nothing_is_lost_or_twice_when_the_server_is_killed(port, tmp_path):
    count = 200
    talk = Talk(f"http://127.0.0.1:{port}", count)
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            async with server(port, tmp_path / "rooms.db"):
                nursery.start_soon(talk.listen)
                await talk.listening.wait()
                nursery.start_soon(talk.speak)
                await talk.wait_heard(40)
            for target in (80, 120):
                async with server(port, tmp_path / "rooms.db"):
                    await talk.wait_heard(target)
            async with server(port, tmp_path / "rooms.db"):
                await talk.wait_heard(count)
                # What was heard may not be acknowledged yet.
                await talk.all_said.wait()
    assert talk.heard == [(f"{number}", number + 1) for number in range(count)]
    assert [position.offset for position in talk.said] == list(range(1, count + 1))
    assert len({position.epoch for position in talk.said}) == 1


async def test_a_drained_server_is_come_back_to_when_it_said(port, tmp_path):
    url = f"http://127.0.0.1:{port}"
    kinds: list[str] = []
    with trio.fail_after(PATIENCE_SECONDS):
        async with (
            connect(url, token=token("ann"), on_state=lambda state: kinds.append(state.kind)) as client,
            server(port, tmp_path / "rooms.db") as process,
            client.join("lobby") as room,
        ):
            first = await room.chat("before")
            process.terminate()
            assert await process.wait() == 0
            async with server(port, tmp_path / "rooms.db"):
                assert await room.chat("after") == Position(first.epoch, 2)
                texts = [m["text"] async for m in _until(room, 2) if m["type"] == "chat"]
    assert texts == ["before", "after"]
    assert kinds.count("connected") >= 2


async def _until(room, chats):
    async for message in room:
        yield message
        chats -= message["type"] == "chat"
        if not chats:
            return


@asynccontextmanager
async def tls_proxy(context: ssl.SSLContext, port: int) -> AsyncIterator[str]:
    """End TLS before a server, as proxies do."""

    async def relay(outer: trio.SSLStream) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", port) as inner, trio.open_nursery() as nursery:

            async def pass_on(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream) -> None:
                try:
                    async for some in source:
                        await sink.send_all(some)
                except trio.BrokenResourceError:
                    pass
                nursery.cancel_scope.cancel()

            nursery.start_soon(pass_on, outer, inner)
            nursery.start_soon(pass_on, inner, outer)

    listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1", https_compatible=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, relay, listeners)
        number = listeners[0].transport_listener.socket.getsockname()[1]
        yield f"https://127.0.0.1:{number}"
        nursery.cancel_scope.cancel()


async def test_it_speaks_over_tls_to_whom_it_trusts(serve, tmp_path):
    certificate, serving = make_certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=certificate)
    async with serve() as served, tls_proxy(serving, int(served.url.rpartition(":")[2])) as url:
        connect_here = partial(connect, url, token=served.token("ann"))
        async with connect_here(ssl_context=trusting) as client, client.join("lobby") as room:
            await room.chat("x" * 400)
            assert (await room.presence()).users == {"ann": 1}
        async with connect_here(reconnects=False) as client:
            with pytest.raises(ClosedError, match="certificate"):
                async with client.join("lobby"):
                    pass


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "HTTP status 503"),
        (b"", "without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "without an answer"),
        (None, "does not answer"),
    ],
)
async def test_what_is_no_server_of_ours_is_told(answer, told):
    async def other(stream: trio.SocketStream) -> None:
        await stream.receive_some(10_000)
        if answer is None:
            await trio.sleep_forever()
        if answer:
            await stream.send_all(answer)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, other, listeners)
            async with connect(url, token="t", reconnects=False, timeout_seconds=1.0) as client:
                with pytest.raises(ClosedError, match=told):
                    async with client.join("lobby"):
                        pass
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("message", ["[1, 2]", "hello", '{"no": "type"}', '{"type": "joined"}'])
async def test_who_speaks_another_language_is_told(message):
    async def other(request: WebSocketRequest) -> None:
        connection = await request.accept(subprotocol="greenroom.v1")
        await connection.send_message(message)
        with suppress(ConnectionClosed):
            while True:
                await connection.get_message()

    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_websocket, other, "127.0.0.1", 0, None)
            async with connect(f"http://127.0.0.1:{server.port}", token="t", reconnects=False) as client:
                with pytest.raises(ClosedError, match="no message of ours"):
                    async with client.join("lobby"):
                        pass
            nursery.cancel_scope.cancel()
