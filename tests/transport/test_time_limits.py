"""Time limits that end a connection: tokens, pings, handshakes; in virtual time."""

import attrs
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from broker.auth.tokens import TokenVerifier
from broker.errors import CloseCode
from broker.model import Claims
from broker.sessions.session import SessionServices
from broker.transport.byte_stream import MemoryByteStream
from tests.support.node import OpenNode
from tests.support.peers import (
    PING,
    RawPeer,
    client_frame,
    handshake,
)


async def test_a_token_that_runs_out_ends_the_connection(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        started = trio.current_time()
        client = await node.client("ann", "lobby", ttl_seconds=30)
        messages, code = await client.read_to_end()
        assert code == CloseCode.TOKEN_EXPIRED
        assert [message["type"] for message in messages] == ["joined", "user_joined"]
        assert 30 <= trio.current_time() - started <= 32


async def test_the_leeway_is_given_to_connections_too(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node(auth={"leeway_seconds": 60.0}) as node:
        started = trio.current_time()
        client = await node.client("ann", "lobby", ttl_seconds=30)
        assert await client.read_code() == CloseCode.TOKEN_EXPIRED
        assert 90 <= trio.current_time() - started <= 92


async def test_a_refreshed_token_keeps_the_connection(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        client = await node.client("ann", "lobby", ttl_seconds=30)
        await trio.sleep(20)
        await client.send(type="refresh", token=node.token("ann", ttl_seconds=100))
        refreshed = await client.receive_type("refreshed")
        assert refreshed["expires_at"] == node.wall_clock() + 100
        started = trio.current_time()
        assert await client.read_code() == CloseCode.TOKEN_EXPIRED
        assert 100 <= trio.current_time() - started <= 102


async def test_a_token_without_end_is_none_to_look_after(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    @attrs.frozen
    class Endless:
        inner: TokenVerifier

        def verify(self, token: str | None) -> Claims:
            return attrs.evolve(self.inner.verify(token), expires_at=None)

        def seconds_left(self, claims: Claims) -> float | None:
            return self.inner.seconds_left(claims)

    def adapt(services: SessionServices) -> SessionServices:
        return attrs.evolve(services, verifier=Endless(services.verifier))

    async with open_node(adapt=adapt) as node:
        client = await node.member("ann", "lobby", ttl_seconds=30)
        await trio.sleep(1000)
        assert (await client.ask(type="refresh", token=node.token("ann")))["expires_at"] is None


async def test_a_peer_that_answers_pings_stays(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        client = await node.member("ann", "lobby")
        await trio.sleep(1000)
        assert (await client.ask(type="ping"))["type"] == "pong"


async def test_a_peer_that_answers_no_pings_gets_4110(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        observer = await node.member("eve", "lobby")
        peer = await node.raw_peer(node.target("lobby", token=node.token("ann")))
        started = trio.current_time()
        await peer.wait_ping()
        assert 25 <= trio.current_time() - started <= 27
        assert await peer.read_code() == CloseCode.NO_PONG
        assert 45 <= trio.current_time() - started <= 48
        assert (await observer.receive_type("user_left"))["user_id"] == "ann"
        # It never answers the close frame either.
        await trio.sleep(10)
        assert len(node.admission) == 1
        assert node.log_lines() == []


async def test_the_end_of_the_stream_without_a_close_frame(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        observer = await node.member("eve", "lobby")
        peer = await node.raw_peer(node.target("lobby", token=node.token("ann")))
        await peer.stream.send_eof()
        assert (await observer.receive_type("user_left"))["user_id"] == "ann"
        await wait_all_tasks_blocked()
        assert len(node.admission) == 1
        assert node.log_lines() == []


async def test_a_handshake_that_never_ends(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        peer = RawPeer(node.dial())
        await peer.send(handshake("/ws/lobby")[:-2])
        started = trio.current_time()
        assert (await peer.read_eof()).startswith(b"HTTP/1.1 408 ")
        assert trio.current_time() - started == pytest.approx(10)
        await peer.stream.aclose()
        await trio.sleep(2)
        assert node.is_empty()


@pytest.mark.parametrize("key", [b"Sec-WebSocket-Key", b"No-Key"], ids=["101", "400"])
async def test_a_handshake_whose_answer_is_never_read(
    open_node: OpenNode, autojump_clock: MockClock, key: bytes
) -> None:
    async with open_node() as node:
        ours, theirs = memory_stream_pair()
        theirs.send_stream.send_all_hook = trio.sleep_forever
        started = trio.current_time()
        await ours.send_all(handshake("/ws/lobby").replace(b"Sec-WebSocket-Key", key))
        with trio.fail_after(30):
            await node.port.serve_stream(MemoryByteStream(theirs, "10.0.0.1"))
        assert 10 <= trio.current_time() - started <= 12
        assert node.is_empty()
        assert node.log_lines() == []


class SlowStream(MemoryByteStream):
    """Takes a while before it writes anything."""

    seconds = 0.0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.sleep(self.seconds)
        await super().send_all(data)


async def test_a_ping_behind_a_close_frame_that_is_still_on_its_way(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        ours, theirs = memory_stream_pair()
        slow = SlowStream(theirs, "10.0.0.1")
        node.nursery.start_soon(node.port.serve_stream, slow)
        peer = RawPeer(ours)
        await peer.shake_hands(node.target(token=node.token("ann")))
        await wait_all_tasks_blocked()
        slow.seconds = 1.0
        assert node.connections.disconnect_user("ann", CloseCode.REMOVED, "removed") == 1
        await wait_all_tasks_blocked()
        await peer.send(client_frame(PING))
        assert await peer.read_code() == CloseCode.REMOVED
        assert node.log_lines() == []


async def test_a_close_handshake_that_is_never_answered(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        peer = await node.raw_peer("/ws/lobby")
        assert await peer.read_code() == CloseCode.UNAUTHORIZED
        started = trio.current_time()
        assert await peer.read_eof() == b""
        assert trio.current_time() - started == pytest.approx(5)
        await trio.sleep(1.1)
        assert node.is_empty()
