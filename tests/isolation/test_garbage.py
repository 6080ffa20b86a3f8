"""Bytes that no client should send: the server answers or closes, and nobody else notices."""

import json
import tracemalloc
from itertools import pairwise
from typing import TypeAlias

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock
from wsproto.utilities import RemoteProtocolError

from broker.errors import CloseCode
from tests.support.node import Node, OpenNode
from tests.support.peers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    RawPeer,
    client_frame,
    handshake,
    text_of,
)

Mutation: TypeAlias = tuple[str, float, bytes]

MUTATIONS: st.SearchStrategy[list[Mutation]] = st.lists(
    st.tuples(
        st.sampled_from(["flip", "insert", "cut out", "truncate", "repeat", "overwrite"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=12),
    ),
    max_size=4,
)
ORDERS = st.permutations(range(7))


def frames_of_a_client(order: list[int]) -> bytes:
    frames = [
        text_of(type="chat", text="gr\u00fc\u00dfe", id=1),
        text_of(type="join", room="other", since={"offset": 1, "epoch": "e"}),
        text_of(type="publish", event="e", data={"a": [1, 2]}, room="other"),
        client_frame(PING, b"payload") + client_frame(TEXT, b'{"type":"pi', fin=False),
        client_frame(CONTINUATION, b'ng"}') + text_of(type="leave"),
        client_frame(TEXT, json.dumps({"type": "history", "x": "y" * 200}).encode()),
        client_frame(BINARY, b"\0\1\2") + client_frame(CLOSE, b"\x03\xe8"),
    ]
    return b"".join(frames[i] for i in order)


def mutate(data: bytes, mutations: list[Mutation]) -> bytes:
    for kind, where, value in mutations:
        at = int(where * len(data))
        head, tail = data[:at], data[at:]
        match kind:
            case "flip":
                data = head + bytes([tail[0] ^ (1 << value[0] % 8)]) + tail[1:] if tail else head
            case "insert":
                data = head + value + tail
            case "cut out":
                data = head + tail[len(value) :]
            case "truncate":
                data = head
            case "repeat":
                data = head + tail[:40] + tail
            case "overwrite":
                data = head + value + tail[len(value) :]
    return data


def tasks_beside_rooms(node: Node) -> int:
    return trio.lowlevel.current_statistics().tasks_living - node.rooms.statistics().rooms


async def suffer(
    open_node: OpenNode, data: bytes, cuts: list[float], is_cut_off: bool, with_handshake: bool
) -> None:
    async with open_node() as node:
        observer = await node.member("eve", "lobby")
        tasks = tasks_beside_rooms(node)
        peer = RawPeer(node.dial())
        if with_handshake:
            await peer.shake_hands(node.target("lobby", token=node.token("ann")))
        places = sorted({0, *(int(cut * len(data)) for cut in cuts), len(data)})
        try:
            for start, end in pairwise(places):
                await peer.send(data[start:end])
                await trio.sleep(0.01)
            if is_cut_off:
                await peer.stream.send_eof()
        except trio.BrokenResourceError:
            pass  # it has closed already
        # In the end it closes, whatever was sent: for want of a request, of a pong, or of patience.
        await read_frames_to_the_end(peer, with_handshake)
        await peer.stream.aclose()
        await trio.sleep(2)
        assert len(node.connections) == len(node.admission) == node.rooms.statistics().members == 1
        assert tasks_beside_rooms(node) == tasks
        assert len(node.log_lines()) <= 1
        assert not [line for line in node.log_lines() if line["level"] == "error"]
        assert (await observer.ask(type="chat", text="unmoved"))["type"] == "ack"
        told = [m["type"] for m in await observer.settle() if m.get("user_id") == "ann"]
        assert told.count("user_joined") == told.count("user_left")


async def read_frames_to_the_end(peer: RawPeer, with_handshake: bool) -> None:
    """Read to the end; whatever garbage came in, what comes out is well-formed."""
    if not with_handshake:
        await peer.read_eof()
        return
    try:
        await peer.read_close()
    except RemoteProtocolError as error:  # pragma: no cover
        raise AssertionError("the server wrote garbage itself") from error
    assert await peer.read_eof() == b""


@given(ORDERS, MUTATIONS, st.lists(st.floats(0, 1), max_size=4), st.booleans())
@settings(max_examples=150)
def test_garbage_behind_the_handshake(
    open_node: OpenNode, order: list[int], mutations: list[Mutation], cuts: list[float], is_cut_off: bool
) -> None:
    data = mutate(frames_of_a_client(order), mutations)
    trio.run(suffer, open_node, data, cuts, is_cut_off, True, clock=MockClock(autojump_threshold=0))


@given(MUTATIONS.filter(len), st.lists(st.floats(0, 1), max_size=4), st.booleans())
@settings(max_examples=150)
def test_garbage_within_the_handshake(
    open_node: OpenNode, mutations: list[Mutation], cuts: list[float], is_cut_off: bool
) -> None:
    data = mutate(handshake("/ws/lobby?token=x", "Sec-WebSocket-Protocol: greenroom.v1, bearer.x"), mutations)
    trio.run(suffer, open_node, data, cuts, is_cut_off, False, clock=MockClock(autojump_threshold=0))


@given(st.binary(max_size=300), st.booleans(), st.booleans())
@settings(max_examples=100)
def test_pure_noise(open_node: OpenNode, noise: bytes, is_cut_off: bool, with_handshake: bool) -> None:
    trio.run(
        suffer, open_node, noise, [0.5], is_cut_off, with_handshake, clock=MockClock(autojump_threshold=0)
    )


@pytest.mark.parametrize("announced", [65_537, 1 << 32, (1 << 63) - 1])
async def test_a_giant_that_is_only_announced_takes_no_memory(
    open_node: OpenNode, autojump_clock: MockClock, announced: int
) -> None:
    async with open_node() as node:
        peer = await node.raw_peer(node.target(token=node.token("ann")))
        piece = b"x" * 16_384
        tracemalloc.start()
        try:
            await peer.send(client_frame(TEXT, announced=announced))
            await trio.sleep(1)
            assert tracemalloc.get_traced_memory()[1] < 200_000, "nothing has come yet"
            sent = 0
            while len(node.connections):
                await peer.send(piece)
                await trio.sleep(0.001)
                sent += len(piece)
            assert sent <= 65_536 + 2 * len(piece)
            for _ in range(100):
                await peer.send(piece)
                await trio.sleep(0.001)
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()
        assert await peer.read_code() == CloseCode.MESSAGE_TOO_BIG
        assert node.log_lines() == []


async def test_a_message_in_a_thousand_fragments_is_one_message(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        peer = await node.raw_peer(node.target(token=node.token("ann")))
        text = b'{"type":"ping","x":"%b"}' % (b"y" * 1000)
        frames = [
            client_frame(CONTINUATION if i else TEXT, text[i : i + 1], fin=False) for i in range(len(text))
        ]
        await peer.send(b"".join(frames) + client_frame(CONTINUATION))
        assert await peer.read_message() == {"type": "pong"}


async def test_a_head_that_never_ends_is_not_read_to_its_end(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        peer = RawPeer(node.dial())
        await peer.send(b"GET /ws/lobby HTTP/1.1\r\n")
        tracemalloc.start()
        try:
            sent = 0
            while len(node.admission):
                await peer.send(b"Cookie: " + b"x" * 8_000 + b"\r\n")
                sent += 8_000
                await trio.sleep(0.02)
            # While it lingers, what comes is read and thrown away.
            assert sent < 16_384 + 8_000 * 60
            assert tracemalloc.get_traced_memory()[1] < 400_000
        finally:
            tracemalloc.stop()
        assert (await peer.read_eof()).startswith(b"HTTP/1.1 431 ")
