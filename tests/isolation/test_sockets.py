"""The same guarantee over real sockets, plain and with TLS: however a peer goes, it is gone, and the others hear of it once."""

import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from broker.errors import CloseCode
from broker.transport.flusher import BYTES_PER_CLOCK_READ, SLICE_SECONDS
from tests.certificates import Authority
from tests.support.node import Node, OpenNode
from tests.support.patience import PATIENCE_SECONDS
from tests.support.peers import CLOSE, TEXT, Client, RawPeer, client_frame, handshake, text_of
from tests.transport.wires import TlsClient

# A machine that stands still for a moment must not look like a peer that is gone: short limits only where they matter.
FAST = {"ping_seconds": 60.0, "pong_seconds": 1.0, "close_seconds": 0.2}


@pytest.fixture(scope="module", params=["plain", "tls"])
def authority(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Authority | None:
    return Authority(tmp_path_factory.mktemp("tls")) if request.param == "tls" else None


@pytest.fixture
def open_either_node(open_node: OpenNode, authority: Authority | None) -> OpenNode:
    if authority is None:
        return open_node
    pair = authority.issue()
    files = {"tls_cert_file": str(pair.certificate), "tls_key_file": str(pair.key)}
    return partial(open_node, server=files)


@asynccontextmanager
async def open_watched_node(
    open_node: OpenNode, *, head_seconds: float = PATIENCE_SECONDS, **websocket: Any
) -> AsyncIterator[tuple[Node, int, Client]]:
    """Open a node with a port and an observer; at the end, nothing of any other connection may be left."""
    settings = {"websocket": {**FAST, **websocket}, "http": {"head_seconds": head_seconds}}
    limits = {"messages_burst": 10_000}
    with trio.fail_after(PATIENCE_SECONDS):
        async with open_node(heartbeat_seconds=0.05, limits=limits, **settings) as node:
            port = await node.listen()
            observer = await node.member("eve", "lobby")
            yield node, port, observer
            await node.wait_gone(1)
            assert len(node.connections) == node.rooms.statistics().members == 1
            assert (await observer.ask(type="ping"))["type"] == "pong"
            told = [m["type"] for m in await observer.settle() if m.get("user_id") == "ann"]
            assert told.count("user_joined") == told.count("user_left") == 0, "the test has heard it all"
            assert not [line for line in node.log_lines() if line["level"] == "error"]


async def secure(node: Node, stream: trio.SocketStream) -> trio.abc.HalfCloseableStream:
    """Shake hands as the port of the node wants it."""
    certificate = node.settings.server.tls_cert_file
    if certificate is None:
        return stream
    (authority,) = Path(certificate).parent.glob("*authority.crt")
    client = TlsClient.over(stream, ssl.create_default_context(cafile=authority))
    await client.shake_hands()
    return client


async def connect(node: Node, port: int, *, receive_bytes: int | None = None) -> RawPeer:
    """Connect as ann to the lobby, over TCP."""
    sock = trio.socket.socket()
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    await sock.connect(("127.0.0.1", port))
    peer = RawPeer(await secure(node, trio.SocketStream(sock)))
    assert "101" in await peer.shake_hands(node.target("lobby", token=node.token("ann")))
    assert (await peer.read_message())["type"] == "joined"
    return peer


async def reset(peer: RawPeer) -> None:
    """Close so that the kernel sends a reset instead of an end."""
    stream = peer.stream.inner if isinstance(peer.stream, TlsClient) else peer.stream
    assert isinstance(stream, trio.SocketStream)
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await peer.stream.aclose()


async def expect_left(observer: Client) -> None:
    assert (await observer.receive_type("user_joined"))["user_id"] == "ann"
    assert (await observer.receive_type("user_left"))["user_id"] == "ann"


async def test_a_reset(open_either_node: OpenNode) -> None:
    async with open_watched_node(open_either_node) as (node, port, observer):
        peer = await connect(node, port)
        await reset(peer)
        await expect_left(observer)


async def test_a_reset_while_it_is_written_to(open_either_node: OpenNode) -> None:
    websocket = {"outbox_bytes": 1 << 26}
    async with open_watched_node(open_either_node, **websocket) as (node, port, observer):
        peer = await connect(node, port, receive_bytes=4096)
        (ann,) = [connection for connection in node.connections if connection.user_id == "ann"]
        while ann._outbox.statistics().queued_bytes < 1_000_000:  # type: ignore[attr-defined]
            await observer.send(type="publish", event="e", data="x" * 60_000, ephemeral=True)
            await observer.receive_type("event")
        assert node.connections.backlog.total_bytes >= ann.queued_bytes > 0
        await reset(peer)
        assert (await observer.receive_type("user_left"))["user_id"] == "ann"
        while node.connections.backlog.total_bytes:
            await trio.sleep(0)


async def test_an_end_without_a_word(open_either_node: OpenNode) -> None:
    async with open_watched_node(open_either_node) as (node, port, observer):
        peer = await connect(node, port)
        await peer.stream.aclose()
        await expect_left(observer)


async def test_requests_before_an_end_are_answered_behind_a_full_outbox(
    open_either_node: OpenNode,
) -> None:
    def write_slowly() -> int:
        time.sleep(SLICE_SECONDS)
        return BYTES_PER_CLOCK_READ

    async with open_watched_node(open_either_node) as (node, port, observer):
        peer = await connect(node, port)
        for _ in range(100):
            node.services.flusher.schedule(write_slowly)
        await peer.send(text_of(type="ping", id="last words"))
        await peer.stream.send_eof()
        while (await peer.read_message()).get("id") != "last words":
            pass
        await expect_left(observer)
        await peer.stream.aclose()


async def test_a_half_open_peer_is_given_up_after_ping_and_pong(open_node: OpenNode) -> None:
    async with open_watched_node(open_node, ping_seconds=0.2) as (node, port, observer):
        started = trio.current_time()
        peer = await connect(node, port)
        await expect_left(observer)
        assert trio.current_time() - started >= 1.2
        assert await peer.read_code() == CloseCode.NO_PONG
        # It answers nothing any more, and never closes.
        await node.wait_gone(1)
        await peer.stream.aclose()


async def test_a_handshake_that_is_never_finished(open_node: OpenNode) -> None:
    async with open_watched_node(open_node, head_seconds=0.3) as (node, port, _observer):
        stream = await secure(node, await trio.open_tcp_stream("127.0.0.1", port))
        await stream.send_all(handshake("/ws/lobby")[:-2])
        assert (await RawPeer(stream).read_eof()).startswith(b"HTTP/1.1 408 ")
        await stream.aclose()


async def test_a_close_handshake_that_is_never_answered(open_either_node: OpenNode) -> None:
    async with open_watched_node(open_either_node) as (node, port, observer):
        peer = await connect(node, port)
        node.connections.disconnect_user("ann", CloseCode.REMOVED, "removed")
        await expect_left(observer)
        assert await peer.read_code() == CloseCode.REMOVED
        assert await peer.read_eof() == b"", "the server closes all the same"
        await peer.stream.aclose()


async def test_a_peer_that_stops_reading_sees_whole_frames_and_4108(open_either_node: OpenNode) -> None:
    websocket = {"outbox_bytes": 200_000, "close_seconds": 5.0}
    async with open_watched_node(open_either_node, **websocket) as (node, port, observer):
        peer = await connect(node, port, receive_bytes=4096)
        sent = 0
        while len(node.connections) == 2:
            sent += 1
            await observer.send(type="publish", event="e", data=[sent, "x" * 50_000], ephemeral=True)
            await observer.receive_type("event")
        messages = 0
        close = None
        # wsproto raises if frames were interleaved.
        while close is None:
            event = await peer.read_event()
            assert event is not None
            messages += getattr(event, "message_finished", False)
            close = getattr(event, "code", None)
        assert close == CloseCode.TOO_SLOW
        assert 1 < messages < sent
        await peer.stream.aclose()


async def test_a_peer_that_stops_reading_for_good(open_either_node: OpenNode) -> None:
    async with open_watched_node(open_either_node, outbox_bytes=200_000) as (
        node,
        port,
        observer,
    ):
        peer = await connect(node, port, receive_bytes=4096)
        while len(node.connections) == 2:
            await observer.send(type="publish", event="e", data="x" * 50_000, ephemeral=True)
            await observer.receive_type("event")
        await node.wait_gone(1)
        await peer.stream.aclose()


async def test_the_reason_reaches_a_peer_that_is_still_sending(open_either_node: OpenNode) -> None:
    # A close with bytes unread is a reset, which a peer notices before it reads why.
    async with open_watched_node(open_either_node) as (node, port, observer):
        for data, code in [
            (client_frame(TEXT, b"x" * 3_000_000), CloseCode.MESSAGE_TOO_BIG),
            (b"\x81\x02{}" + b"x" * 3_000_000, CloseCode.PROTOCOL_ERROR),
            (client_frame(TEXT, b"\xff") + b"x" * 300_000, CloseCode.INVALID_UTF8),
            (text_of(type="refresh", token="x") + text_of(type="ping") * 20_000, CloseCode.UNAUTHORIZED),
        ]:
            peer = await connect(node, port)
            await peer.send(data)
            close = await peer.read_close()
            assert close is not None
            assert close[0] == code
            await peer.send(client_frame(CLOSE, b"\x03\xe8"))
            assert await peer.read_eof() == b"", "an end, and no reset"
            await peer.stream.aclose()
            await expect_left(observer)


async def test_the_refusal_reaches_a_peer_that_is_still_sending(open_either_node: OpenNode) -> None:
    async with open_watched_node(open_either_node) as (node, port, _observer):
        for data, status in [
            (b"rubbish\r\n\r\n" + b"x" * 300_000, b"400"),
            (b"x" * 300_000, b"431"),
            (handshake("/ws/lobby").replace(b"Sec-WebSocket-Key", b"X") + b"x" * 300_000, b"400"),
        ]:
            stream = await secure(node, await trio.open_tcp_stream("127.0.0.1", port))
            await stream.send_all(data)
            assert (await RawPeer(stream).read_eof()).startswith(b"HTTP/1.1 " + status)
            await stream.aclose()


async def test_many_at_once_in_every_way(open_node: OpenNode) -> None:
    async with open_watched_node(open_node) as (node, port, observer):
        async with trio.open_nursery() as nursery:
            for i in range(40):
                nursery.start_soon(come_and_go, node, port, i)
        left = joined = 0
        while left < 40:
            kind = (await observer.receive())["type"]
            joined += kind == "user_joined"
            left += kind == "user_left"
        assert joined == 40


async def come_and_go(node: Node, port: int, i: int) -> None:
    peer = await connect(node, port)
    match i % 4:
        case 0:
            await reset(peer)
        case 1:
            await peer.stream.aclose()
        case 2:
            await peer.send(client_frame(CLOSE, b"\x03\xe8"))
            await peer.read_eof()
            await peer.stream.aclose()
        case _:
            await peer.send(text_of(type="chat", text="x" * 100) * 3 + b"\xff\xff")
            await peer.read_eof()
            await peer.stream.aclose()
