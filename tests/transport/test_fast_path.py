"""The fast path finds what trio-websocket alone would have found, in the same order, whatever comes in whatever pieces."""

import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from operator import xor
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked
from trio_websocket import ConnectionClosed, wrap_server_stream

from broker.errors import CloseCode
from broker.sessions.session import Rest
from broker.transport.byte_stream import SocketByteStream
from broker.transport.fast_path import FastPath, unmask
from broker.transport.messages import Messages
from broker.transport.pump import open_pump, open_source
from broker.transport.websocket_stream import WebSocketStream
from tests.transport.wires import memory_pair, open_outbox

LIMIT_BYTES = 70_000
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    key: bytes | None = b"mask",
    length_bytes: int | None = None,
) -> bytes:
    """Return a frame as a peer may build it, also a wrong one: `length_bytes` (1, 2 or 8) may be too many."""
    size = len(payload)
    least = 1 if size < 126 else 2 if size < 1 << 16 else 8
    length_bytes = max(least, length_bytes or least)
    head = bytes([fin << 7 | reserved << 4 | opcode])
    mask_bit = 0 if key is None else 0x80
    if length_bytes == 1:
        head += bytes([mask_bit | size])
    else:
        head += bytes([mask_bit | (126 if length_bytes == 2 else 127)]) + size.to_bytes(length_bytes, "big")
    if key is None:
        return head + payload
    return head + key + bytes(map(xor, payload, itertools.cycle(key)))


@attrs.frozen
class Outcome:
    """What a server has seen of a connection, and what it has answered."""

    messages: tuple[str | bytes, ...]
    closed: tuple[int, str | None]
    written: bytes


@attrs.define
class Receiver:
    """Takes messages out of a connection; those that begin with "w" have to wait, as a join does."""

    messages: list[str | bytes] = attrs.Factory(list)
    by_fast_path: int = 0
    """How many messages the fast path has found, also those that had to wait."""

    def handle_nowait(self, text: str) -> Callable[[], Awaitable[None]] | None:
        self.by_fast_path += 1
        if text.startswith("w"):
            return partial(self.handle, text)
        self.messages.append(text)
        return None

    async def handle(self, message: str | bytes) -> None:
        await trio.sleep(1 if message[:1] == "w" else 0)
        self.messages.append(message)

    async def handle_all(self, receive: Callable[[], Awaitable[str | bytes | Rest]]) -> None:
        while True:
            try:
                message = await receive()
            except ConnectionClosed:
                return
            await (self.handle(message) if isinstance(message, str | bytes) else message())


def socket_pair() -> tuple[trio.SocketStream, SocketByteStream]:
    ours, theirs = trio.socket.socketpair()
    return trio.SocketStream(ours), SocketByteStream(trio.SocketStream(theirs), "unix")


async def converse(
    pieces: Sequence[bytes], *, has_fast_path: bool, is_pumped: bool = False, pause_seconds: float = 0
) -> tuple[Outcome, int]:
    """Send pieces to a server that has a fast path, or none; returns what came of it, and how many messages by the fast path."""
    client, server = socket_pair() if is_pumped else memory_pair()
    receiver = Receiver()
    answers = bytearray()

    async def read_answers() -> None:
        while data := await client.receive_some():
            answers.extend(data)

    async def send_pieces() -> None:
        try:
            for piece in pieces:
                await client.send_all(piece)
                # Without a pause the server gets a piece alone now and then, now and then with the next.
                await trio.sleep(pause_seconds)
            await client.send_eof()
        except trio.BrokenResourceError:
            pass

    async with client, open_pump() as pump, trio.open_nursery() as nursery:
        nursery.start_soon(read_answers)
        outbox, _ = open_outbox(server, 1 << 20, nursery.start_soon)
        stream = WebSocketStream(server, REQUEST, outbox, open_source(server, pump if is_pumped else None))
        async with trio.open_nursery() as connection_nursery:
            request = await wrap_server_stream(
                connection_nursery, stream, max_message_size=LIMIT_BYTES, message_queue_size=16
            )
            connection = await request.accept()
            nursery.start_soon(send_pieces)
            receive = connection.get_message
            if has_fast_path:
                receive = Messages(connection, stream, LIMIT_BYTES, receiver.handle_nowait).receive
            await receiver.handle_all(receive)
            connection_nursery.cancel_scope.cancel()
        await stream.finish()
    closed = connection.closed
    assert closed is not None
    # Which byte was bad is counted from where the piece begins that trio-websocket was given.
    reason = None if closed.code == CloseCode.INVALID_UTF8 else closed.reason
    return Outcome(tuple(receiver.messages), (closed.code, reason), bytes(answers)), receiver.by_fast_path


def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return trio.run(partial(function, *args, **kwargs), clock=MockClock(autojump_threshold=0))


TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", "w", "wait", "é" * 62, "x" * 125, "x" * 126, "€" * 30_000, "x" * 65_535, "x" * 65_536]
    ),
).map(str.encode)
BAD_TEXTS = st.sampled_from([b"\xff", b"\xc3", b"a\xed\xa0\x80", b"\xf4\x90\x80\x80"])
KEYS = st.binary(min_size=4, max_size=4)
GOOD_FRAMES = st.builds(frame, st.just(TEXT), TEXTS, key=KEYS)
OTHER_GOOD_FRAMES = st.one_of(
    st.builds(frame, st.sampled_from([PING, PONG]), st.binary(max_size=125), key=KEYS),
    st.builds(frame, st.just(BINARY), st.binary(max_size=200), key=KEYS),
    st.builds(
        lambda *parts: b"".join(
            frame(CONTINUATION if i else TEXT, part, fin=i == len(parts) - 1) for i, part in enumerate(parts)
        ),
        TEXTS,
        TEXTS,
        TEXTS,
    ),
)
BAD_FRAMES = st.one_of(
    st.builds(frame, st.just(TEXT), BAD_TEXTS),
    st.builds(frame, st.sampled_from([3, 11, CONTINUATION]), st.binary(max_size=5)),
    st.builds(frame, st.just(TEXT), TEXTS, reserved=st.integers(1, 7)),
    st.builds(frame, st.just(TEXT), TEXTS, key=st.none()),
    st.builds(frame, st.just(TEXT), TEXTS, length_bytes=st.sampled_from([2, 8])),
    st.builds(frame, st.just(TEXT), TEXTS, fin=st.just(False)),
    st.builds(frame, st.just(PING), st.binary(min_size=126, max_size=130)),
    st.builds(
        frame, st.just(CLOSE), st.sampled_from([b"", b"\x03\xe8", b"\x03\xe8bye", b"\x00", b"\x03\xe8\xff"])
    ),
    st.just(frame(TEXT, b"x" * (LIMIT_BYTES + 1))),
)
# What each frame is followed by: nothing, or the end of a piece so many bytes before its own end.
CUTS = st.one_of(st.none(), st.just(0), st.integers(0, 10))
CONVERSATIONS = st.builds(
    lambda good, end, behind: [*good, *end, *behind],
    st.lists(st.tuples(st.one_of(GOOD_FRAMES, GOOD_FRAMES, OTHER_GOOD_FRAMES), CUTS), max_size=12),
    st.lists(st.tuples(BAD_FRAMES, CUTS), max_size=1),
    st.lists(st.tuples(GOOD_FRAMES, CUTS), max_size=2),
)


def cut_up(conversation: list[tuple[bytes, int | None]]) -> list[bytes]:
    """Return the bytes of a conversation in pieces; what is behind the last cut never comes."""
    pieces = []
    rest = b""
    for data, cut in conversation:
        rest += data
        if cut is not None:
            end = max(0, len(rest) - cut)
            pieces.append(rest[:end])
            rest = rest[end:]
    return [piece for piece in pieces if piece]


@given(conversation=CONVERSATIONS)
@settings(max_examples=200)
def test_any_split_of_any_frames_comes_to_the_same(conversation: list[tuple[bytes, int | None]]) -> None:
    pieces = cut_up(conversation)
    expected, _ = run(converse, pieces, has_fast_path=False)
    found, _ = run(converse, pieces, has_fast_path=True)
    assert found.messages == expected.messages
    assert found.closed == expected.closed
    assert found.written == expected.written


@pytest.mark.parametrize(
    ("first", "closed"),
    [
        (frame(TEXT, b"begun", fin=False), CloseCode.PROTOCOL_ERROR),
        (frame(CLOSE, b"\x03\xe8"), CloseCode.NORMAL),
    ],
    ids=["the beginning of a message", "a close frame"],
)
def test_a_text_is_no_message_behind(first: bytes, closed: CloseCode) -> None:
    outcome, _ = run(converse, [first, frame(TEXT, b"plain")], has_fast_path=True, pause_seconds=2)
    assert outcome.messages == ()
    assert outcome.closed[0] == closed


async def test_a_frame_begun_in_the_fast_path_ends_in_good_order_when_the_fast_path_is_closed(
    autojump_clock: MockClock,
) -> None:
    client, server = memory_pair()
    async with trio.open_nursery() as nursery:
        outbox, _ = open_outbox(server, 1 << 20, nursery.start_soon)
        stream = WebSocketStream(server, REQUEST, outbox, open_source(server, None))
        connection = await (await wrap_server_stream(nursery, stream)).accept()
        stream.use_fast_path(FastPath(LIMIT_BYTES, lambda _text: True))
        half = frame(TEXT, b"half of this")
        await client.send_all(half[:9])
        await wait_all_tasks_blocked()
        stream.close_fast_path()
        await client.send_all(half[9:] + frame(CLOSE, b"\x03\xe8bye"))
        assert await connection.get_message() == "half of this"
        with pytest.raises(ConnectionClosed, match="bye"):
            await connection.get_message()


async def test_the_pump_finds_the_same() -> None:
    data = b"".join(
        [
            frame(TEXT, b"first"),
            frame(PING, b"p"),
            frame(TEXT, b"wait"),
            frame(TEXT, "é".encode() * 20_000),
            frame(TEXT, b"frag", fin=False),
            frame(CONTINUATION, b"ment"),
            frame(TEXT, b"last"),
            frame(CLOSE, b"\x03\xe8bye"),
            frame(TEXT, b"behind"),
        ]
    )
    for size in (100, len(data)):
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        with trio.fail_after(10):
            found, _ = await converse(pieces, has_fast_path=True, is_pumped=True)
        assert found.messages == ("first", "wait", "é" * 20_000, "fragment", "last")
        assert found.closed == (CloseCode.NORMAL, "bye")


@pytest.mark.parametrize("cut", [0, 1, 9])
def test_a_message_that_has_to_wait_is_found_once_and_the_fast_path_goes_on_behind_it(cut: int) -> None:
    waiting, plain = frame(TEXT, b"wait"), frame(TEXT, b"plain")
    pieces = [plain, waiting[:cut], waiting[cut:], plain, waiting + plain[:1], plain[1:], plain]
    outcome, by_fast_path = run(
        converse, [piece for piece in pieces if piece], has_fast_path=True, pause_seconds=2
    )
    assert outcome.messages == ("plain", "wait", "plain", "wait", "plain", "plain")
    # Only what comes in one piece with one that waits, behind it, is trio-websocket's.
    assert by_fast_path == 5


def test_the_fast_path_takes_plain_texts_again_once_the_session_is_done_with_others() -> None:
    plain = [frame(TEXT, b"plain")] * 2
    pieces = [*plain, frame(TEXT, b"wait"), *plain, frame(BINARY, b"x"), *plain, frame(PING), *plain]
    outcome, by_fast_path = run(converse, pieces, has_fast_path=True, pause_seconds=2)
    assert outcome.messages == ("plain", "plain", "wait", "plain", "plain", b"x") + ("plain",) * 4
    assert by_fast_path == 9


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 65_536])
def test_unmasking_is_what_the_rfc_says(size: int) -> None:
    key, payload = b"\x00\x80\xff\x01", bytes(i % 256 for i in range(size))
    masked = unmask(key, payload)
    assert masked == bytes(b ^ key[i % 4] for i, b in enumerate(payload))
    assert unmask(key, masked) == payload


def test_a_frame_that_is_not_whole_is_held_and_no_more_than_one() -> None:
    taken: list[str] = []
    fast_path = FastPath(100, lambda text: not taken.append(text))  # type: ignore[func-returns-value]
    whole = frame(TEXT, b"hello")
    for byte in whole[:-1]:
        assert fast_path.feed(bytes([byte])) == b""
    assert not taken
    assert fast_path.feed(whole[-1:] + whole + whole[:3]) == b""
    assert taken == ["hello", "hello"]
    assert fast_path.take_held() == whole[:3]


def test_what_follows_a_message_that_has_to_wait_is_returned_untouched() -> None:
    texts: list[str] = []
    fast_path = FastPath(100, lambda text: texts.append(text) or text != "wait")  # type: ignore[func-returns-value]
    behind = frame(TEXT, b"behind") + frame(CLOSE, b"")[:3]
    assert fast_path.feed(frame(TEXT, b"one") + frame(TEXT, b"wait") + behind) == behind
    assert fast_path.feed(frame(TEXT, b"wait")) == b""
    assert texts == ["one", "wait", "wait"]


def test_a_large_frame_in_many_pieces_costs_no_more_than_its_size() -> None:
    size, piece = 16 << 20, 1024
    taken: list[int] = []
    fast_path = FastPath(size, lambda text: not taken.append(len(text)))  # type: ignore[func-returns-value]
    whole = frame(TEXT)[:1] + b"\xff" + size.to_bytes(8, "big") + bytes(4) + b"x" * size
    started = time.process_time()
    for at in range(0, len(whole), piece):
        assert fast_path.feed(whole[at : at + piece]) == b""
    # Some 0.1 s; to copy what is held for each piece would take 30 s.
    assert time.process_time() - started < 3
    assert taken == [size]


def test_a_frame_above_the_limit_is_passed_on_from_its_head_alone() -> None:
    fast_path = FastPath(100, lambda _text: True)
    head = frame(TEXT, b"x" * 101)[:2]
    assert fast_path.feed(head) == head
    long_head = frame(TEXT, b"x" * 200)[:4]
    assert fast_path.feed(long_head[:3]) == b"", "its length is not known yet"
    assert fast_path.feed(long_head[3:]) == long_head
