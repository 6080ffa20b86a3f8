"""The fast path keeps all limits and the order, with any number of messages at once."""

from contextlib import suppress

import attrs
import pytest
import trio
from trio.testing import MockClock

from broker.errors import CloseCode
from broker.protocol.commands import AnyCommand, CommandDecoder
from broker.transport.native_protocol import native_protocol
from tests.support.node import OpenNode
from tests.support.peers import (
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    Message,
    RawPeer,
    client_frame,
    handshake,
    text_of,
)


@pytest.mark.parametrize("kind", ["history", "presence"])
async def test_many_large_answers_are_made_as_they_are_read(
    open_node: OpenNode, autojump_clock: MockClock, kind: str
) -> None:
    async with open_node(websocket={"outbox_bytes": 10_000}, limits={"messages_burst": 10_000}) as node:
        eve = await node.member("eve", "lobby")
        for number in range(20):
            await eve.ask(type="chat", text="x" * 100, id=number)
            await node.member("a" * 100 + str(number), "lobby")
        peer = await node.raw_peer(node.target("lobby", token=node.token("ann")))
        assert (await peer.read_message())["type"] == "joined"
        await peer.send(text_of(type=kind) * 100)
        answers = 0
        while answers < 100:
            answers += (await peer.read_message())["type"] == kind


def kinds(messages: list[Message]) -> list[str]:
    return [message.get("code") or message["type"] for message in messages]


@pytest.mark.parametrize("burst", [1, 7, 40])
async def test_the_slow_way_costs_as_much_of_the_rate_as_the_fast_one(
    open_node: OpenNode, autojump_clock: MockClock, burst: int
) -> None:
    limits = {"messages_per_second": 0.001, "messages_burst": burst, "refused_burst": 1000}
    requests = [
        text_of(type="ping", id=1),
        text_of(type="presence", by="count", id=1),
        client_frame(TEXT, b'{"type":"ping"', fin=False) + client_frame(CONTINUATION, b',"id":1}'),
        text_of(type="set_state", state=1, id=1),
        text_of(type="join", room="elsewhere", id=1),
        client_frame(TEXT, b"{"),
        text_of(type="chat", text="x", id=1),
    ]
    async with open_node(limits=limits) as node:
        peer = await node.raw_peer(node.target("lobby", token=node.token("ann")))
        assert kinds([await peer.read_message() for _ in range(2)]) == ["joined", "user_joined"]
        await peer.send(b"".join(requests) * 10)
        answers: list[Message] = []
        while len(answers) < 70:
            message = await peer.read_message()
            if "id" in message or message["type"] == "error":
                answers.append(message)
        assert kinds(answers).count("rate_limited") == 70 - burst


@pytest.mark.parametrize("refused_burst", [1, 5])
async def test_too_many_by_either_way_are_too_many(
    open_node: OpenNode, autojump_clock: MockClock, refused_burst: int
) -> None:
    limits = {"messages_per_second": 0.001, "messages_burst": 3, "refused_burst": refused_burst}
    for one in (
        text_of(type="ping"),
        text_of(type="join", room="elsewhere"),
        client_frame(TEXT, b"{", fin=False) + client_frame(CONTINUATION, b"}"),
    ):
        async with open_node(limits=limits) as node:
            peer = await node.raw_peer(node.target(token=node.token("ann")))
            await peer.send(one * (3 + refused_burst))
            assert await (await node.client("eve", "elsewhere")).ask(type="ping")
            assert len(node.connections) == 2, "as many as may be refused"
            await peer.send(one)
            assert await peer.read_code() == CloseCode.TOO_MANY


async def test_a_connection_that_is_being_ended_is_not_obeyed_any_more(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        eve = await node.member("eve", "lobby")
        peer = await node.raw_peer(node.target("lobby", token=node.token("ann")))
        stranger = text_of(type="refresh", token=node.token("somebody else"))
        said = [text_of(type="chat", text=text) for text in ("before", "behind")]
        await peer.send(said[0] + stranger + said[1] * 10 + client_frame(PING) + said[1])
        assert await peer.read_code() == CloseCode.UNAUTHORIZED
        await peer.send(said[1])
        heard = await eve.settle()
        assert [message["text"] for message in heard if message["type"] == "chat"] == ["before"]
        assert heard[-1]["type"] == "user_left"


async def test_frames_behind_the_request_count_like_any_others(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    limits = {"messages_burst": 10, "refused_burst": 10}
    async with open_node(limits=limits) as node:
        peer = RawPeer(node.dial())
        await peer.send(handshake(node.target(token=node.token("ann"))) + client_frame(PING) * 500)
        await peer.read_head()
        assert await peer.read_code() == CloseCode.TOO_MANY


LIMIT_BYTES = 300
ROOM_FOR_TEXT = LIMIT_BYTES - len('{"type":"ping","x":""}')


@pytest.mark.parametrize("character", ["x", "\u00e9", "\u20ac", "\U0001f600"])
@pytest.mark.parametrize("is_fragmented", [False, True])
async def test_messages_are_limited_in_bytes_by_either_way(
    open_node: OpenNode, autojump_clock: MockClock, character: str, is_fragmented: bool
) -> None:
    size = len(character.encode())
    text = character * (ROOM_FOR_TEXT // size) + "x" * (ROOM_FOR_TEXT % size)

    def message(text: str) -> bytes:
        payload = b'{"type":"ping","x":"%b"}' % text.encode()
        if is_fragmented:
            return client_frame(TEXT, payload[:20], fin=False) + client_frame(CONTINUATION, payload[20:])
        return client_frame(TEXT, payload)

    async with open_node(websocket={"message_bytes": LIMIT_BYTES}) as node:
        peer = await node.raw_peer(node.target(token=node.token("ann")))
        await peer.send(message(text))
        assert await peer.read_message() == {"type": "pong"}
        await peer.send(message(text + "x"))
        assert await peer.read_code() == CloseCode.MESSAGE_TOO_BIG


async def test_frames_right_behind_the_request_are_heard_at_once(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        peer = RawPeer(node.dial())
        started = trio.current_time()
        request = handshake(node.target(token=node.token("ann")))
        await peer.send(request + client_frame(PING, b"1") + text_of(type="ping") + client_frame(PING, b"2"))
        await peer.read_head()
        assert await peer.read_pong() == b"1"
        assert await peer.read_message() == {"type": "pong"}
        assert trio.current_time() - started < 1


async def test_a_text_is_no_message_behind_a_close_frame_that_came_with_the_request(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        eve = await node.member("eve", "lobby")
        peer = RawPeer(node.dial())
        request = handshake(node.target("lobby", token=node.token("ann")))
        await peer.send(request + client_frame(CLOSE, b"\x03\xe8"))
        await peer.read_head()
        await trio.sleep(1)
        with suppress(trio.BrokenResourceError):
            await peer.send(text_of(type="chat", text="behind"))
        assert [message for message in await eve.settle() if message["type"] == "chat"] == []


class CountingDecoder(CommandDecoder):
    """Counts what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def decode(self, text: str | bytes) -> AnyCommand:
        self.count += 1
        return super().decode(text)


@pytest.mark.parametrize("is_one_piece", [True, False])
async def test_each_message_is_decoded_once_also_one_that_has_to_wait(
    open_node: OpenNode, autojump_clock: MockClock, is_one_piece: bool
) -> None:
    decoder = CountingDecoder()
    requests = [
        text_of(type="join", room="elsewhere", id=1),
        text_of(type="presence", id=2),
        text_of(type="chat", text="x", id=3),
        text_of(type="history", id=4),
        text_of(type="ping", id=5),
    ]
    async with open_node(protocols=[attrs.evolve(native_protocol(), decoder=decoder)]) as node:
        peer = await node.raw_peer(node.target("lobby", token=node.token("ann")))
        for piece in [b"".join(requests)] if is_one_piece else requests:
            await peer.send(piece)
            await trio.sleep(0.1)
        ids: list[int] = []
        while len(ids) < len(requests):
            message = await peer.read_message()
            if message["type"] in {"joined", "presence", "ack", "history", "pong"} and "id" in message:
                ids.append(message["id"])
        assert ids == [1, 2, 3, 4, 5]
    assert decoder.count == len(requests)
