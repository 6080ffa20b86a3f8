"""The protocol, case by case, over real sockets: what the Autobahn suite's parts 1 to 7 ask of a server.

A chat stands for the echo that the suite expects. Each case is written at once, and again in small pieces.
"""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

import attrs
import pytest
import trio
from wsproto.events import CloseConnection, Pong, TextMessage

from tests.support.node import Node, OpenNode
from tests.support.patience import PATIENCE_SECONDS
from tests.support.peers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Message,
    RawPeer,
    client_frame,
)

Reply: TypeAlias = tuple[str, object]
PIECE_BYTES = (1, 7)
LIMIT_BYTES = 65_536
LAST = "the last"
FAILURES = (1002, 1007, 1009)


@attrs.frozen
class Case:
    name: str
    sent: bytes
    replies: tuple[Reply, ...]


def chat_of(text: bytes) -> bytes:
    return b'{"type":"chat","text":"' + text + b'"}'


def chat_frame(text: bytes) -> bytes:
    return client_frame(TEXT, chat_of(text))


def fragments(payload: bytes, size: int, *, between: bytes = b"", opcode: int = TEXT) -> bytes:
    parts = [payload[at : at + size] for at in range(0, len(payload), size)]
    return between.join(
        client_frame(opcode if number == 0 else CONTINUATION, part, fin=number == len(parts) - 1)
        for number, part in enumerate(parts)
    )


def close_of(code: int, reason: bytes = b"") -> bytes:
    return client_frame(CLOSE, code.to_bytes(2) + reason)


def heard(text: str) -> Reply:
    return ("chat", text)


def closed(code: int) -> Reply:
    return ("close", code)


def framing() -> Iterator[Case]:
    for size in (125, 126, 127, 128, 1000, 65_535, 65_536):
        text = b"*" * (size - len(chat_of(b"")))
        yield Case(f"1.1 text of {size}", chat_frame(text), (heard(text.decode()),))
        yield Case(f"1.1 text of {size} in fragments", fragments(chat_of(text), 997), (heard(text.decode()),))
    yield Case("1.1 text of 0", client_frame(TEXT), (("error", "invalid_json"),))
    yield Case("1.1 text above the limit", chat_frame(b"*" * LIMIT_BYTES), (closed(1009),))
    for size in (0, 125, 126, 65_536):
        yield Case(f"1.2 binary of {size}", client_frame(BINARY, b"\xfe" * size), (closed(1003),))


def pings() -> Iterator[Case]:
    for payload in (b"", b"Hello", bytes([0, 255, 254, 253, 252, 251, 0, 255]), b"\xfe" * 125):
        yield Case(f"2 ping of {payload[:8]!r}", client_frame(PING, payload), (("pong", payload),))
    yield Case("2.5 ping of 126", client_frame(PING, b"\xfe" * 126), (closed(1002),))
    yield Case("2.7 pong unasked", client_frame(PONG) + chat_frame(b"on"), (heard("on"),))
    yield Case("2.8 pong unasked, with payload", client_frame(PONG, b"x") + chat_frame(b"on"), (heard("on"),))
    ten = [f"payload-{number}".encode() for number in range(10)]
    yield Case(
        "2.10 ten pings",
        b"".join(client_frame(PING, payload) for payload in ten),
        tuple(("pong", payload) for payload in ten),
    )


def reserved() -> Iterator[Case]:
    for bits in range(1, 8):
        bad = client_frame(TEXT, chat_of(b"bad"), rsv=bits)
        yield Case(f"3 text with bits {bits}", bad, (closed(1002),))
        yield Case(
            f"3 text with bits {bits} after one without",
            chat_frame(b"good") + bad,
            (heard("good"), closed(1002)),
        )
        yield Case(f"3 ping with bits {bits}", client_frame(PING, b"x", rsv=bits), (closed(1002),))
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        bad = client_frame(opcode, b"x" if opcode % 2 else b"")
        yield Case(f"4 opcode {opcode}", bad, (closed(1002),))
        yield Case(
            f"4 opcode {opcode} after a text",
            chat_frame(b"good") + bad + client_frame(PING),
            (heard("good"), closed(1002)),
        )


def fragmentation() -> Iterator[Case]:
    hello, ping = chat_of(b"hello"), client_frame(PING, b"p")
    pong = ("pong", b"p")
    yield Case("5.1 ping in fragments", client_frame(PING, b"a", fin=False), (closed(1002),))
    yield Case("5.2 pong in fragments", client_frame(PONG, b"a", fin=False), (closed(1002),))
    yield Case("5.3 text in two", fragments(hello, 20), (heard("hello"),))
    yield Case("5.5 text byte by byte", fragments(hello, 1), (heard("hello"),))
    yield Case("5.6 a ping between two", fragments(hello, 20, between=ping), (pong, heard("hello")))
    count = len(hello) - 1
    yield Case("5.8 pings between all", fragments(hello, 1, between=ping), (*[pong] * count, heard("hello")))
    for fin in (True, False):
        stray = client_frame(CONTINUATION, b"stray", fin=fin)
        yield Case(f"5.9 a continuation of nothing, final {fin}", stray, (closed(1002),))
        yield Case(
            f"5.12 a continuation of what has ended, final {fin}",
            fragments(hello, 20) + stray,
            (heard("hello"), closed(1002)),
        )
    begun = client_frame(TEXT, hello, fin=False)
    yield Case("5.18 a text within a text", begun + chat_frame(b"x"), (closed(1002),))
    yield Case("5.18 a binary within a text", begun + client_frame(BINARY, b"x"), (closed(1002),))
    many = fragments(hello, 5, between=ping) + fragments(chat_of(b"again"), 7, between=ping)
    first, second = -(-len(hello) // 5) - 1, -(-len(chat_of(b"again")) // 7) - 1
    yield Case(
        "5.19 two texts in fragments, with pings",
        many,
        (*[pong] * first, heard("hello"), *[pong] * second, heard("again")),
    )
    empty = client_frame(TEXT, b"", fin=False) + client_frame(CONTINUATION, b"", fin=False)
    yield Case("6.1 empty fragments around", empty + client_frame(CONTINUATION, hello), (heard("hello"),))
    yield Case("6.1 empty fragments only", empty + client_frame(CONTINUATION), (("error", "invalid_json"),))


GOOD_UTF8 = (
    "Hello-µ@ßöäüàá-UTF-8!!",
    "κόσμε",
    "\x7f",
    "\u0080",
    "\u07ff",
    "\u0800",
    "\uffff",
    "\U00010000",
    "\ud7ff",
    "\ue000",
    "\ufffd",
    "\ufffe",
    "\U0010ffff",
    "\U0001f600 \U0001d11e",
)
BAD_UTF8 = (
    b"\x80",
    b"\xbf",
    b"\x80\xbf\x80",
    b"\xc0",
    b"\xc0\xaf",
    b"\xc1\xbf",
    b"\xdf",
    b"\xe0\x80\xaf",
    b"\xe0\x9f\xbf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80",
    b"\xef\xbf",
    b"\xf0\x80\x80\xaf",
    b"\xf0\x8f\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf7\xbf\xbf\xbf",
    b"\xf8\x88\x80\x80\x80",
    b"\xfb\xbf\xbf\xbf\xbf",
    b"\xfc\x84\x80\x80\x80\x80",
    b"\xfe",
    b"\xff",
    "κόσμε".encode() + b"\xf4\x90\x80\x80" + b"edited",
)


def utf8() -> Iterator[Case]:
    for text in GOOD_UTF8:
        payload = chat_of(text.encode())
        yield Case(f"6 valid {text!r}", client_frame(TEXT, payload), (heard(text),))
        yield Case(f"6 valid {text!r} byte by byte", fragments(payload, 1), (heard(text),))
    for bad in BAD_UTF8:
        payload = chat_of(bad)
        yield Case(f"6 invalid {bad!r}", client_frame(TEXT, payload), (closed(1007),))
        yield Case(f"6 invalid {bad!r} byte by byte", fragments(payload, 1), (closed(1007),))
        good = chat_frame(b"good")
        yield Case(
            f"6 invalid {bad!r} after a text",
            good + client_frame(TEXT, payload),
            (heard("good"), closed(1007)),
        )


def closing() -> Iterator[Case]:
    normal = close_of(1000)
    yield Case("7.1.1 a text, then close", chat_frame(b"x") + normal, (heard("x"), closed(1000)))
    yield Case("7.1.2 close twice", normal + normal, (closed(1000),))
    yield Case("7.1.3 a ping after close", normal + client_frame(PING), (closed(1000),))
    yield Case("7.1.4 a text after close", normal + chat_frame(b"late"), (closed(1000),))
    yield Case(
        "7.1.5 close within a text", client_frame(TEXT, chat_of(b"x"), fin=False) + normal, (closed(1000),)
    )
    yield Case("7.3.1 close without a code", client_frame(CLOSE), (closed(1005),))
    yield Case("7.3.2 close of one byte", client_frame(CLOSE, b"a"), (closed(1002),))
    yield Case("7.3.4 close with a reason", close_of(1000, b"Hello"), (closed(1000),))
    yield Case("7.3.5 close with the longest reason", close_of(1000, b"*" * 123), (closed(1000),))
    yield Case("7.3.6 close of 126 bytes", close_of(1000, b"*" * 124), (closed(1002),))
    yield Case("7.5.1 a reason that is no UTF-8", close_of(1000, b"\xce\xba\xed\xa0\x80"), (closed(1007),))
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield Case(f"7.7 close with {code}", close_of(code), (closed(code),))
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999):
        yield Case(f"7.9 close with {code}", close_of(code), (closed(1002),))


CASES = [*framing(), *pings(), *reserved(), *fragmentation(), *utf8(), *closing()]


@asynccontextmanager
async def shaken(node: Node) -> AsyncIterator[RawPeer]:
    """Connect over TCP and join a room."""
    port = await node.listen()
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        peer = RawPeer(stream)
        head = await peer.shake_hands(node.target("lobby", token=node.token("ann")))
        assert "101" in head.partition("\r\n")[0]
        for kind in ("joined", "user_joined"):
            assert (await peer.read_message())["type"] == kind
        yield peer


@attrs.define(eq=False)
class Talk:
    """The sent and received messages of one case."""

    peer: RawPeer
    sending: trio.Lock = attrs.Factory(trio.Lock)

    async def send(self, data: bytes) -> None:
        """Write, or not, if the server has hung up before it has read everything."""
        with suppress(trio.BrokenResourceError):
            async with self.sending:
                await self.peer.send(data)

    async def write(self, sent: bytes, piece_bytes: int | None) -> None:
        """Write it all, then a last chat; what is long in not too many pieces."""
        size = max(piece_bytes or len(sent), len(sent) // 200)
        for at in range(0, len(sent), size):
            await self.send(sent[at : at + size])
            await trio.lowlevel.checkpoint()
        await self.send(chat_frame(LAST.encode()))

    async def replies(self) -> list[Reply]:
        """Return what comes before the last chat, or up to the end."""
        replies: list[Reply] = []
        text = ""
        while event := await self.peer.read_event():
            match event:
                case Pong(payload=payload):
                    replies.append(("pong", bytes(payload)))
                case CloseConnection(code=code):
                    replies.append(closed(int(code)))
                    await self.send(close_of(1000))
                case TextMessage(data=data, message_finished=finished):
                    text += data
                    if not finished:
                        continue
                    reply, text = reply_of(json.loads(text)), ""
                    if reply == heard(LAST):
                        return replies
                    replies.append(reply)
                case _:
                    raise AssertionError(event)
        return replies


def reply_of(message: Message) -> Reply:
    return (message["type"], message.get("text", message.get("code")))


def pongs_and_rest(replies: Sequence[Reply]) -> tuple[list[Reply], list[Reply]]:
    """Pongs may overtake what a room says."""
    return [reply for reply in replies if reply[0] == "pong"], [
        reply for reply in replies if reply[0] != "pong"
    ]


def check(replies: Sequence[Reply], expected: Sequence[Reply]) -> None:
    """Where the connection fails, what its room was saying just then need not reach it."""
    pongs, rest = pongs_and_rest(replies)
    expected_pongs, expected_rest = pongs_and_rest(expected)
    assert pongs == expected_pongs
    if expected_rest and expected_rest[-1] in map(closed, FAILURES):
        assert rest[-1:] == expected_rest[-1:]
        assert rest[:-1] == expected_rest[: len(rest) - 1]
    else:
        assert rest == expected_rest


@pytest.mark.parametrize("piece_bytes", [None, *PIECE_BYTES], ids=["at once", "bytes", "sevens"])
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_a_case_of_the_protocol(open_node: OpenNode, case: Case, piece_bytes: int | None) -> None:
    generous = {"text_characters": LIMIT_BYTES, "messages_burst": 10_000}
    async with open_node(limits=generous) as node, shaken(node) as peer:
        talk = Talk(peer)
        replies: list[Reply] = []
        with trio.fail_after(PATIENCE_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(talk.write, case.sent, piece_bytes)
                replies += await talk.replies()
        check(replies, case.replies)
        await trio.aclose_forcefully(peer.stream)
        await node.wait_gone(0)
        assert node.is_empty()
