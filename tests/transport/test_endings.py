"""How each end of a connection looks to its peer, in memory and virtual time."""

import json
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair
from trio_websocket import ConnectionClosed

from broker.errors import CloseCode
from broker.model import Claims
from broker.transport.byte_stream import MemoryByteStream
from tests.support.node import OpenNode
from tests.support.peers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawPeer,
    client_frame,
    text_of,
)


async def ended(
    open_node: OpenNode, data: bytes, **sections: Any
) -> tuple[tuple[int, str] | None, list[Any]]:
    """Return how a connection ends on which `data` is written after the handshake, and the log."""
    async with open_node(**sections) as node:
        observer = await node.member("eve", "lobby")
        peer = await node.raw_peer(node.target("lobby", token=node.token("ann")))
        await peer.send(data)
        close = await peer.read_close()
        await peer.send(client_frame(CLOSE, b"\x03\xe8"))
        assert await peer.read_eof() == b""
        await trio.sleep(5)
        said = [message["type"] for message in await observer.settle() if message.get("user_id") == "ann"]
        assert said == ["user_joined", "user_left"]
        assert len(node.connections) == len(node.admission) == 1
        return close, node.log_lines()


BAD_FRAMES = {
    "binary": (client_frame(BINARY, b"x"), CloseCode.BINARY_MESSAGE),
    "empty binary": (client_frame(BINARY), CloseCode.BINARY_MESSAGE),
    "binary in fragments": (
        client_frame(BINARY, b"x", fin=False) + client_frame(CONTINUATION, b"y"),
        CloseCode.BINARY_MESSAGE,
    ),
    "invalid UTF-8": (client_frame(TEXT, b'{"\xff'), CloseCode.INVALID_UTF8),
    "overlong UTF-8": (client_frame(TEXT, b"\xc0\xaf"), CloseCode.INVALID_UTF8),
    "a surrogate in UTF-8": (client_frame(TEXT, b"\xed\xa0\x80"), CloseCode.INVALID_UTF8),
    "UTF-8 that ends too early": (client_frame(TEXT, b"\xe2\x82"), CloseCode.INVALID_UTF8),
    "invalid UTF-8 in a later fragment": (
        client_frame(TEXT, b"\xe2", fin=False) + client_frame(CONTINUATION, b"\x28"),
        CloseCode.INVALID_UTF8,
    ),
    "invalid UTF-8 in a close reason": (client_frame(CLOSE, b"\x03\xe8\xff"), CloseCode.INVALID_UTF8),
    "no mask": (b"\x81\x02{}", CloseCode.PROTOCOL_ERROR),
    "a reserved bit": (client_frame(TEXT, b"{}", rsv=4), CloseCode.PROTOCOL_ERROR),
    "a reserved opcode": (client_frame(3, b"{}"), CloseCode.PROTOCOL_ERROR),
    "a reserved control opcode": (client_frame(11), CloseCode.PROTOCOL_ERROR),
    "a fragmented ping": (client_frame(PING, fin=False), CloseCode.PROTOCOL_ERROR),
    "a ping too long": (client_frame(PING, b"x" * 126), CloseCode.PROTOCOL_ERROR),
    "a length in too many bytes": (b"\x81\xfe\x00\x05", CloseCode.PROTOCOL_ERROR),
    "a negative length": (client_frame(TEXT, announced=1 << 63), CloseCode.PROTOCOL_ERROR),
    "a continuation of nothing": (client_frame(CONTINUATION, b"x"), CloseCode.PROTOCOL_ERROR),
    "a message within a message": (
        client_frame(TEXT, b"x", fin=False) + client_frame(TEXT, b"y"),
        CloseCode.PROTOCOL_ERROR,
    ),
    "a close code of one byte": (client_frame(CLOSE, b"\x03"), CloseCode.PROTOCOL_ERROR),
    "a close code that none may send": (client_frame(CLOSE, b"\x03\xee"), CloseCode.PROTOCOL_ERROR),
    "a close code out of range": (client_frame(CLOSE, b"\xff\xff"), CloseCode.PROTOCOL_ERROR),
    "too big": (client_frame(TEXT, b"x" * 65_537), CloseCode.MESSAGE_TOO_BIG),
    "too big in fragments": (
        client_frame(TEXT, b"x" * 60_000, fin=False) + client_frame(CONTINUATION, b"x" * 6_000),
        CloseCode.MESSAGE_TOO_BIG,
    ),
    "too big in characters of three bytes": (
        client_frame(TEXT, ("\u20ac" * 21_846).encode()),
        CloseCode.MESSAGE_TOO_BIG,
    ),
    "too big in characters of four bytes": (
        client_frame(TEXT, ("\U0001f600" * 16_385).encode()),
        CloseCode.MESSAGE_TOO_BIG,
    ),
}


@pytest.mark.parametrize("case", BAD_FRAMES)
async def test_what_cannot_be_taken_ends_in_its_close_code(
    open_node: OpenNode, autojump_clock: MockClock, case: str
) -> None:
    data, code = BAD_FRAMES[case]
    close, log = await ended(open_node, data)
    assert close is not None
    assert close[0] == code
    assert close[1], "a developer wants to know why"
    assert log == []


@pytest.mark.parametrize("size", [65_535, 65_536])
async def test_a_message_just_small_enough_is_read(
    open_node: OpenNode, autojump_clock: MockClock, size: int
) -> None:
    async with open_node() as node:
        peer = await node.raw_peer(node.target(token=node.token("ann")))
        await peer.send(client_frame(TEXT, b'{"type":"ping","id":1,"x":"%b"}' % (b"x" * (size - 31))))
        assert (await peer.read_message()) == {"type": "pong", "id": 1}
        euros = "\u20ac" * ((size - 31) // 3)
        text = json.dumps({"type": "ping", "id": 2, "x": euros}, ensure_ascii=False, separators=(",", ":"))
        await peer.send(client_frame(TEXT, text.encode()))
        assert (await peer.read_message()) == {"type": "pong", "id": 2}


async def test_two_messages_too_big_in_one_go(open_node: OpenNode, autojump_clock: MockClock) -> None:
    big = client_frame(TEXT, b"x" * 200)
    close, log = await ended(open_node, big + big + client_frame(PING), websocket={"message_bytes": 100})
    assert close is not None
    assert close[0] == CloseCode.MESSAGE_TOO_BIG
    assert log == []


@pytest.mark.parametrize("payload", [b"", b"x", b"y" * 125])
async def test_a_clients_ping_is_answered_with_its_payload(
    open_node: OpenNode, autojump_clock: MockClock, payload: bytes
) -> None:
    async with open_node() as node:
        peer = await node.raw_peer(node.target(token=node.token("ann")))
        await peer.send(client_frame(PONG, b"nobody asked") + client_frame(PING, payload))
        assert await peer.read_pong() == payload


@pytest.mark.parametrize(
    "frame",
    [client_frame(PONG), client_frame(PING), client_frame(CONTINUATION, fin=False)],
    ids=["pongs", "pings", "empty fragments"],
)
async def test_a_flood_of_frames_that_are_no_messages_gets_4129(
    open_node: OpenNode, autojump_clock: MockClock, frame: bytes
) -> None:
    limits = {"messages_per_second": 10.0, "messages_burst": 10, "refused_burst": 10}
    async with open_node(limits=limits) as node:
        peer = await node.raw_peer(node.target(token=node.token("ann")))
        await peer.send(client_frame(TEXT, b"{", fin=False))
        for _ in range(1000):
            await peer.send(frame)
        assert await peer.read_code() == CloseCode.TOO_MANY
        assert node.log_lines() == []


async def test_a_message_may_come_in_fragments_with_a_ping_between(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        peer = await node.raw_peer(node.target("lobby", token=node.token("ann")))
        text = json.dumps({"type": "chat", "text": "gr\u00fc\u00dfe"}, ensure_ascii=False).encode()
        cut = text.index(b"\xc3") + 1  # within a character
        await peer.send(client_frame(TEXT, text[:cut], fin=False))
        await peer.send(client_frame(PING, b"now"))
        assert await peer.read_pong() == b"now"
        await peer.send(client_frame(CONTINUATION, fin=False) + client_frame(CONTINUATION, text[cut:]))
        assert (await peer.read_message())["text"] == "gr\u00fc\u00dfe"


@pytest.mark.parametrize(("payload", "answer"), [(b"\x03\xe8bye", 1000), (b"\x0f\xa0", 4000), (b"", 1005)])
async def test_a_close_handshake_started_by_the_client(
    open_node: OpenNode, autojump_clock: MockClock, payload: bytes, answer: int
) -> None:
    close, log = await ended(open_node, client_frame(CLOSE, payload))
    assert close is not None
    assert close[0] == answer
    assert log == []


async def test_messages_before_a_close_frame_are_obeyed(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        observer = await node.member("eve", "lobby")
        peer = await node.raw_peer(node.target("lobby", token=node.token("ann")))
        await peer.send(text_of(type="chat", text="last words") + client_frame(CLOSE, b"\x03\xe8"))
        assert await peer.read_code() == 1000
        assert (await observer.receive_type("chat"))["text"] == "last words"
        assert (await observer.receive())["type"] == "user_left"


@pytest.mark.parametrize("more", [client_frame(PING, b"x"), client_frame(TEXT, b"x" * 70_000)])
async def test_a_peer_that_speaks_on_while_it_is_refused_hears_why(
    open_node: OpenNode, autojump_clock: MockClock, more: bytes
) -> None:
    async with open_node() as node:
        peer = await node.raw_peer("/ws/lobby")
        await peer.send(more)
        assert await peer.read_code() == CloseCode.UNAUTHORIZED
        await peer.send(client_frame(CLOSE, b"\x03\xe8"))
        await trio.sleep(10)
        assert node.is_empty()
        assert node.log_lines() == []


async def test_one_removed_by_the_application_gets_4004(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        observer = await node.member("eve", "lobby")
        client = await node.member("ann", "lobby")
        assert node.connections.disconnect_user("ann", CloseCode.REMOVED, "removed") == 1
        # What comes after the first reason counts for nothing.
        assert node.connections.disconnect_user("ann", CloseCode.GOING_AWAY, "?") == 1
        assert await client.read_to_end() == ([], CloseCode.REMOVED)
        assert (await observer.receive_type("user_left"))["user_id"] == "ann"


async def test_one_told_to_reconnect_hears_after_how_long(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        client = await node.member("ann", "lobby")
        (connection,) = node.connections
        connection.send_reconnect(1234)
        connection.disconnect(CloseCode.SERVICE_RESTART, "service restart")
        assert await client.read_to_end() == (
            [{"type": "reconnect", "after_ms": 1234}],
            CloseCode.SERVICE_RESTART,
        )


async def test_what_waits_is_written_before_a_close_frame(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        client = await node.member("ann", "lobby")
        for i in range(50):
            await client.send(type="ping", id=i)
        await client.send(type="refresh", token="x")
        messages, code = await client.read_to_end()
        assert [message["id"] for message in messages] == list(range(50))
        assert code == CloseCode.UNAUTHORIZED


async def test_a_client_that_is_cut_off_sees_no_close_frame(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    ours, theirs = memory_stream_pair()
    async with open_node() as node:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node.port.serve_stream, MemoryByteStream(theirs, "10.0.0.1"))
                peer = RawPeer(ours)
                await peer.shake_hands(node.target("lobby", token=node.token("ann")))
                assert (await peer.read_message())["type"] == "joined"
                scope.cancel()
        assert await peer.read_close() is None
        await trio.sleep(1)
        assert node.is_empty()


async def test_a_verifier_that_fails_ends_in_1011_and_one_line(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    class Broken:
        def verify(self, token: str | None) -> Claims:
            raise ValueError("no keys today")

    async with open_node(adapt=lambda services: attrs.evolve(services, verifier=Broken())) as node:
        client = await node.client("ann", "lobby")
        assert await client.read_code() == CloseCode.INTERNAL_ERROR
        await trio.sleep(2)
        assert node.is_empty()
        (line,) = node.log_lines()
        assert (line["event"], line["address"]) == ("connection failed", "10.0.0.1")
        assert line["error"]["message"] == "no keys today"


async def test_the_client_library_sees_the_code_as_its_own_error(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        client = await node.client(None, "lobby")
        with pytest.raises(ConnectionClosed) as caught:
            await client.receive()
        assert caught.value.reason.code == CloseCode.UNAUTHORIZED
