"""The one port: what a connection asks for decides who serves it, and no one's end is another's."""

from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from broker.errors import CloseCode
from broker.transport.admission import MOST_REFUSED_PER_ADDRESS
from broker.transport.byte_stream import MemoryByteStream
from broker.transport.port import REFUSAL_SECONDS, Port
from broker.transport.streams import ReplayStream
from tests.support.node import OpenNode
from tests.support.peers import RawPeer, handshake

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_what_asks_for_no_websocket_is_http_with_all_its_bytes(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        peer = RawPeer(node.dial())
        await peer.send(GET + b"pipelined")
        assert await peer.read_eof() == b"http:" + GET + b"pipelined"


@pytest.mark.parametrize("path", ["/", "/wsx", "/api/rooms"])
async def test_a_websocket_elsewhere_is_http_too(
    open_node: OpenNode, autojump_clock: MockClock, path: str
) -> None:
    async with open_node() as node:
        peer = RawPeer(node.dial())
        await peer.send(handshake(path))
        assert await peer.read_eof() == b"http:" + handshake(path)


async def test_a_head_may_come_byte_by_byte(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        peer = RawPeer(node.dial())
        for byte in handshake(node.target("lobby", token=node.token("ann"))):
            await peer.send(bytes([byte]))
            await trio.sleep(0.001)
        assert "101" in await peer.read_head()
        assert (await peer.read_message())["type"] == "joined"


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (b"\x16\x03\x01\x02\x00\x01 TLS\r\n\r\n", b"400", "not an HTTP request"),
        (b"x" * 20_000, b"431", "request head too long"),
        (b"GET / HTTP/1.1\r\nCookie: " + b"x" * 16_384 + b"\r\n\r\n", b"431", "request head too long"),
        (b"GET / HTTP/1.1\r\n", b"408", "request head took too long"),
    ],
)
async def test_what_is_no_request_is_answered_and_noted_in_one_line(
    open_node: OpenNode, autojump_clock: MockClock, data: bytes, status: bytes, reason: str
) -> None:
    async with open_node() as node:
        peer = RawPeer(node.dial("10.1.1.1"))
        await peer.send(data)
        assert (await peer.read_eof()).startswith(b"HTTP/1.1 " + status)
        await peer.stream.aclose()
        await wait_all_tasks_blocked()
        assert node.is_empty()
        (line,) = node.log_lines()
        assert (line["event"], line["address"], line["reason"]) == ("bad request", "10.1.1.1", reason)


async def test_a_silent_peer_is_let_go_in_silence(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        peer = RawPeer(node.dial())
        started = trio.current_time()
        assert await peer.read_eof() == b""
        assert trio.current_time() - started == pytest.approx(10)
        assert node.log_lines() == []


async def test_a_full_node_answers_503_to_all(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node(limits={"connections": 1}) as node:
        first = await node.member("ann", "lobby")
        for data in (GET, handshake("/ws/lobby"), b""):
            peer = RawPeer(node.dial("10.0.0.2"))
            await peer.send(data)
            assert (await peer.read_eof()).startswith(b"HTTP/1.1 503 ")
            await peer.stream.aclose()
            await wait_all_tasks_blocked()
        assert len(node.admission) == 1
        await first.aclose()
        await trio.sleep(2)
        assert (await (await node.client("bob", "lobby")).receive())["type"] == "joined"


async def test_an_address_with_too_many_connections_gets_429_for_http(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node(limits={"connections_per_address": 1}) as node:
        await node.member("ann", "lobby")
        peer = RawPeer(node.dial())
        await peer.send(GET)
        assert (await peer.read_eof()).startswith(b"HTTP/1.1 429 ")
        other = RawPeer(node.dial("10.0.0.2"))
        await other.send(GET)
        assert (await other.read_eof()).startswith(b"http:")


async def test_connections_that_come_too_fast_are_told_when_to_come_again(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node(limits={"accepts_per_second": 0.5, "accepts_burst": 2}) as node:
        for user in ("ann", "bob"):
            await node.member(user, "lobby")
        for _ in range(2):
            head = await RawPeer(node.dial()).read_head()
            assert head.startswith("HTTP/1.1 503 ")
            assert "\r\nRetry-After: 1\r\n" in head
        await trio.sleep(2)
        await node.member("cyd", "lobby")


REFUSED = {
    "silent": b"",
    "half a head": b"GET / HT",
    "http": GET,
    "websocket": handshake("/ws/lobby"),
}


@pytest.mark.parametrize("asks", REFUSED)
async def test_an_address_over_its_limit_takes_nothing_from_others_and_is_soon_gone(
    open_node: OpenNode, autojump_clock: MockClock, asks: str
) -> None:
    async with open_node(limits={"connections": 4, "connections_per_address": 2}) as node:
        for user in ("ann", "bob"):
            await node.member(user, "lobby")
        peers = [RawPeer(node.dial()) for _ in range(200)]
        for peer in peers:
            with suppress(trio.BrokenResourceError):
                await peer.send(REFUSED[asks])
        await wait_all_tasks_blocked()
        assert len(node.admission) <= 2 + MOST_REFUSED_PER_ADDRESS
        others = [await node.client("cyd", "lobby", address=f"10.0.1.{n}") for n in range(2)]
        for other in others:
            assert (await other.receive())["type"] == "joined"
        await trio.sleep(REFUSAL_SECONDS + 0.1)
        assert len(node.admission) == 4
        answers = [answer for peer in peers if (answer := await peer.read_eof())]
        assert len(answers) <= MOST_REFUSED_PER_ADDRESS, "the others are closed without a word"
        expected = {"http": b"HTTP/1.1 429 ", "websocket": b"HTTP/1.1 101 "}.get(asks, b"")
        assert all(answer.startswith(expected) for answer in answers)
        assert bool(answers) is bool(expected)


async def test_one_subscriber_has_one_limit_for_all_its_ipv6_addresses(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node(limits={"connections_per_address": 1}) as node:
        await node.member("ann", "lobby", address="2001:db8::1")
        other = await node.client("bob", "lobby", address="2001:db8::ffff:1")
        assert await other.read_code() == CloseCode.TOO_MANY
        await node.member("cyd", "lobby", address="2001:db8:0:1::1")


async def test_a_refused_peer_that_reads_nothing_is_let_go(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        ours, theirs = memory_stream_pair()
        theirs.send_stream.send_all_hook = trio.sleep_forever
        await ours.send_all(b"rubbish\r\n\r\n")
        with trio.fail_after(5):
            await node.port.serve_stream(MemoryByteStream(theirs, "10.0.0.1"))
        assert node.is_empty()


async def test_stopping_lets_go_of_those_who_have_not_asked_for_anything(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        silent, halfway = RawPeer(node.dial()), RawPeer(node.dial())
        await halfway.send(b"GET / HT")
        served = await node.member("ann", "lobby")
        await wait_all_tasks_blocked()
        started = trio.current_time()
        node.port.begin_stop()
        assert await silent.read_eof() == b""
        assert await halfway.read_eof() == b""
        assert trio.current_time() == started
        assert (await served.ask(type="ping"))["type"] == "pong"
        # One that was accepted at the last moment is no exception.
        assert await RawPeer(node.dial()).read_eof() == b""
        assert trio.current_time() == started
        assert node.log_lines() == []


@pytest.mark.parametrize("error", [trio.BrokenResourceError(), trio.ClosedResourceError()])
async def test_a_peer_that_goes_is_no_news(
    open_node: OpenNode, autojump_clock: MockClock, error: Exception
) -> None:
    async def fail(stream: ReplayStream) -> None:
        raise error

    async with open_node() as node:
        port = Port(node.services, node.admission, node.settings.http, fail)
        ours, theirs = memory_stream_pair()
        await ours.send_all(GET)
        await port.serve_stream(MemoryByteStream(theirs, "10.0.0.1"))
        assert await ours.receive_some() == b""
        assert node.is_empty()
        assert node.log_lines() == []


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_what_the_http_side_raises_goes_no_further_than_the_log(
    open_node: OpenNode, autojump_clock: MockClock, is_cancelled: bool
) -> None:
    async def fail(stream: ReplayStream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep(5)
            finally:
                raise ValueError("a fault of the application")

    async with open_node() as node:
        port = Port(node.services, node.admission, node.settings.http, fail)
        ours, theirs = memory_stream_pair()
        await ours.send_all(GET)
        with trio.move_on_after(1 if is_cancelled else 10):
            await port.serve_stream(MemoryByteStream(theirs, "10.0.0.1"))
        assert await ours.receive_some() == b""
        assert node.is_empty()
        (line,) = node.log_lines()
        assert (line["level"], line["event"]) == ("error", "connection failed")
        assert "a fault of the application" in str(line)


async def test_what_a_cancelled_connection_raises_goes_no_further_than_the_log(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    """A stream that fails while it is cancelled: the fault stays here, the cancellation goes on."""

    class Faulty(MemoryByteStream):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            if b"user_joined" not in data:
                return await super().send_all(data)
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("a fault of the stream")

    async with open_node() as node:
        observer = await node.member("eve", "lobby")
        ours, theirs = memory_stream_pair()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node.port.serve_stream, Faulty(theirs, "10.0.0.1"))
                await ours.send_all(handshake(node.target("lobby", token=node.token("ann"))))
                await observer.receive_type("user_joined")
                scope.cancel()
        assert scope.cancelled_caught
        assert (await observer.receive_type("user_left"))["user_id"] == "ann"
        assert len(node.admission) == 1
        (line,) = node.log_lines()
        assert (line["event"], line["level"]) == ("connection failed", "error")
        assert "a fault of the stream" in str(line)


async def test_a_head_split_from_its_frames_makes_no_difference(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        peer = RawPeer(node.dial())
        data = handshake(f"/ws/lobby?token={node.token('ann')}&offset=0&epoch=none")
        await peer.send(data[:40])
        await wait_all_tasks_blocked()
        await peer.send(data[40:])
        assert "101" in await peer.read_head()
        joined = await peer.read_message()
        assert (joined["type"], joined["recovered"]) == ("joined", False)


async def test_a_websocket_refused_for_its_address_is_told_so_in_its_own_words(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node(limits={"connections_per_address": 1}) as node:
        await node.member("ann", "lobby")
        peer = await node.raw_peer("/ws/lobby")  # without a token: nobody looked at it
        assert await peer.read_close() == (CloseCode.TOO_MANY, "too many connections of this address")
