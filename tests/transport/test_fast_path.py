"""The fast path finds what trio-websocket alone would have found, in the same order, whatever comes in whatever pieces."""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import memory_stream_pair
from trio_websocket import ConnectionClosed, wrap_server_stream

from broker.errors import CloseCode
from broker.transport.closed import Closed
from broker.transport.fast_path import FRAMES_PER_TURN, FastPath
from broker.transport.frames import unmask, unmask_short
from broker.transport.websocket import WebSocket
from tests.transport.conversations import (
    BINARY,
    CLOSE,
    CONTINUATION,
    LIMIT_BYTES,
    PING,
    PONG,
    TEXT,
    Octets,
    Outcome,
    Receiver,
    converse,
    cut_up,
    fail,
    frame,
    make_outcome,
    run,
    socket_pair,
)
from tests.transport.wires import open_outbox

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def no_control(opcode: int, payload: bytes) -> None:
    """All control frames are trio-websocket's."""


async def converse_with_library(pieces: Sequence[bytes]) -> Outcome:
    """Do the same with trio-websocket as it comes, and with nothing of ours.

    Each message is taken as it is found: over a message that is too big, trio-websocket discards those that wait.
    """
    client, server = memory_stream_pair()
    receiver = Receiver()
    answers = bytearray()

    async def read_answers() -> None:
        while data := await client.receive_some():
            answers.extend(data)

    async def send_pieces() -> None:
        with suppress(trio.BrokenResourceError):
            for piece in pieces:
                await client.send_all(piece)
                await trio.sleep(0)
            await client.send_eof()

    async with client, trio.open_nursery() as nursery:
        nursery.start_soon(read_answers)
        async with trio.open_nursery() as connection_nursery:
            await client.send_all(REQUEST)
            request = await wrap_server_stream(
                connection_nursery,
                server,  # type: ignore[arg-type]  # any stream does
                max_message_size=LIMIT_BYTES,
                message_queue_size=0,
            )
            connection = await request.accept()
            nursery.start_soon(send_pieces)
            with suppress(ConnectionClosed):
                while True:
                    receiver.messages.append(await connection.get_message())
            connection_nursery.cancel_scope.cancel()
        await server.aclose()
    head, _, written = bytes(answers).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    return make_outcome(receiver, sent_close(written) or connection.closed, written)


def sent_close(written: bytes) -> Closed | None:
    """Return what the first close frame says. Behind it, trio-websocket may find yet another reason."""
    at = 0
    while at < len(written) and written[at] != 0x80 | CLOSE:
        at += 2 + written[at + 1]
    if at >= len(written):
        return None
    payload = written[at + 2 : at + 2 + written[at + 1]]
    return Closed(int.from_bytes(payload[:2], "big") if payload else 1005, payload[2:].decode())


TEXTS = st.one_of(
    st.text(max_size=20).map(str.encode),
    st.sampled_from(
        [
            Octets(text.encode())
            for text in (
                "",
                "w",
                "wait",
                "é" * 62,
                "x" * 125,
                "x" * 126,
                "€" * 30_000,
                "x" * 65_535,
                "x" * 65_536,
            )
        ]
    ),
)
BAD_TEXTS = st.sampled_from([b"\xff", b"\xc3", b"a\xed\xa0\x80", b"\xf4\x90\x80\x80"])
KEYS = st.binary(min_size=4, max_size=4)
GOOD_FRAMES = st.builds(frame, st.just(TEXT), TEXTS, key=KEYS)
OTHER_GOOD_FRAMES = st.one_of(
    st.builds(frame, st.sampled_from([PING, PONG]), st.binary(max_size=125), key=KEYS),
    st.builds(frame, st.just(BINARY), st.binary(max_size=200), key=KEYS),
    st.builds(
        lambda *parts: Octets(
            b"".join(
                frame(CONTINUATION if i else TEXT, part, fin=i == len(parts) - 1)
                for i, part in enumerate(parts)
            )
        ),
        TEXTS,
        TEXTS,
        TEXTS,
    ),
)
CONTROLS = st.sampled_from([CLOSE, PING, PONG])
CLOSES = st.one_of(
    st.sampled_from([b"", b"\x00", b"\x03\xe8", b"\x03\xe8bye", b"\x03\xe8\xff"]),
    st.builds(
        lambda code, reason: code.to_bytes(2, "big") + reason,
        st.one_of(st.integers(995, 1020), st.integers(2990, 3010), st.integers(0, 65_535)),
        st.one_of(st.just(b""), st.text(max_size=30).map(str.encode), st.binary(max_size=5)),
    ),
)
BAD_FRAMES = st.one_of(
    st.builds(frame, st.just(TEXT), BAD_TEXTS),
    st.builds(frame, st.sampled_from([3, 11, CONTINUATION]), st.binary(max_size=5)),
    st.builds(frame, st.just(TEXT), TEXTS, reserved=st.integers(1, 7)),
    st.builds(frame, st.just(TEXT), TEXTS, key=st.none()),
    st.builds(frame, st.just(TEXT), TEXTS, length_bytes=st.sampled_from([2, 8])),
    st.builds(frame, st.just(TEXT), TEXTS, fin=st.just(False)),
    st.builds(frame, CONTROLS, st.binary(min_size=126, max_size=130)),
    st.builds(frame, CONTROLS, st.binary(max_size=5), fin=st.just(False)),
    st.builds(frame, CONTROLS, st.binary(max_size=5), reserved=st.integers(1, 7)),
    st.builds(frame, CONTROLS, st.binary(max_size=5), key=st.none()),
    st.builds(frame, CONTROLS, st.binary(max_size=5), length_bytes=st.sampled_from([2, 8])),
    st.builds(frame, st.just(CLOSE), CLOSES, key=KEYS),
    st.builds(frame, st.just(CLOSE), CLOSES, key=KEYS),
    st.sampled_from([TEXT, BINARY]).map(lambda opcode: frame(opcode, b"x" * (LIMIT_BYTES + 1))),
    st.builds(
        lambda opcode, first: Octets(
            frame(opcode, first, fin=False) + frame(CONTINUATION, b"x" * LIMIT_BYTES, fin=bool(first))
        ),
        st.sampled_from([TEXT, BINARY]),
        st.sampled_from([b"x", b"xx"]),
    ),
)
# What each frame is followed by: nothing, or the end of a piece so many bytes before its own end.
CUTS = st.one_of(st.none(), st.just(0), st.integers(0, 10))
CONVERSATIONS = st.builds(
    lambda good, end, behind: [*good, *end, *behind],
    st.lists(st.tuples(st.one_of(GOOD_FRAMES, GOOD_FRAMES, OTHER_GOOD_FRAMES), CUTS), max_size=12),
    st.lists(st.tuples(BAD_FRAMES, CUTS), max_size=1),
    st.lists(st.tuples(GOOD_FRAMES, CUTS), max_size=2),
)


@given(conversation=CONVERSATIONS)
@example(conversation=[(frame(BINARY), 0), (frame(TEXT), None), (frame(BINARY), None), (frame(BINARY), 0)])
@example(
    conversation=[
        *[(frame(TEXT, text), 0) for text in (b"", b"", b"", b"w", b"")],
        (frame(TEXT, b"x", fin=False), 0),
        (frame(CONTINUATION, b"x" * LIMIT_BYTES), 0),
    ]
)
@settings(max_examples=100)
def test_any_split_of_any_frames_comes_to_the_same(conversation: list[tuple[bytes, int | None]]) -> None:
    pieces = cut_up(conversation)
    expected = run(converse_with_library, pieces)
    for has_fast_path in (True, False):
        found, _ = run(converse, pieces, has_fast_path=has_fast_path)
        assert found == expected


@given(conversation=CONVERSATIONS, seconds=st.integers(0, 30))
@settings(max_examples=30)
def test_a_close_of_ours_comes_to_the_same_whatever_the_peer_is_sending(
    conversation: list[tuple[bytes, int | None]], seconds: int
) -> None:
    pieces = cut_up(conversation)
    settings = {"pause_seconds": 2, "closes_after_seconds": seconds + 0.5}
    fast, slow = (run(converse, pieces, has_fast_path=has, **settings)[0] for has in (True, False))
    assert fast == slow
    if fast.closed is None:
        assert fast.written.endswith(b"\x88\x05\x0f\xa0bye")


@pytest.mark.parametrize("has_fast_path", [True, False])
@pytest.mark.parametrize("count", [14, 15, 16, 17, 18, 50])
def test_however_many_messages_come_behind_one_that_waits_they_keep_their_order(
    count: int, has_fast_path: bool
) -> None:
    texts = [b"w%d" % i if i % 5 == 0 else b"%d" % i for i in range(count)]
    data = b"".join(frame(TEXT, text) for text in texts) + frame(PING, b"p") + frame(CLOSE, b"\x03\xe8")
    for size in (len(data), 100, 7):
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        outcome, _ = run(converse, pieces, has_fast_path=has_fast_path)
        assert outcome == Outcome(
            tuple(text.decode() for text in texts), (1000, ""), b"\x8a\x01p\x88\x02\x03\xe8"
        )


ENDS = {
    "too big in one frame": (CloseCode.MESSAGE_TOO_BIG, frame(TEXT, b"x" * (LIMIT_BYTES + 1))),
    "too big in fragments": (
        CloseCode.MESSAGE_TOO_BIG,
        frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"x" * LIMIT_BYTES),
    ),
    "too big and not whole": (
        CloseCode.MESSAGE_TOO_BIG,
        frame(BINARY, b"x", fin=False) + frame(CONTINUATION, b"x" * LIMIT_BYTES, fin=False),
    ),
    "invalid UTF-8": (CloseCode.INVALID_UTF8, frame(TEXT, b"\xff")),
    "invalid UTF-8 in fragments": (
        CloseCode.INVALID_UTF8,
        frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"x"),
    ),
    "no such opcode": (CloseCode.PROTOCOL_ERROR, frame(3)),
    "no mask": (CloseCode.PROTOCOL_ERROR, frame(TEXT, b"x", key=None)),
    "a continuation of nothing": (CloseCode.PROTOCOL_ERROR, frame(CONTINUATION, b"x")),
    "an invalid close code": (CloseCode.PROTOCOL_ERROR, frame(CLOSE, b"\x00\x01")),
    "a close frame": (CloseCode.NORMAL, frame(CLOSE, b"\x03\xe8")),
    "half a frame": (1006, frame(TEXT, b"half")[:-1]),
}


@pytest.mark.parametrize("has_fast_path", [True, False])
@pytest.mark.parametrize("kind", ["texts", "texts in fragments", "binary messages"])
@pytest.mark.parametrize("count", [1, 16, 40])
@pytest.mark.parametrize("name", ENDS)
def test_all_messages_that_were_whole_before_the_end_are_handled(
    name: str, count: int, kind: str, has_fast_path: bool
) -> None:
    code, end = ENDS[name]
    payloads = [b"%d" % i for i in range(count)]
    match kind:
        case "texts":
            frames = [frame(TEXT, payload) for payload in payloads]
        case "texts in fragments":
            frames = [frame(TEXT, payload, fin=False) + frame(CONTINUATION) for payload in payloads]
        case _:
            frames = [frame(BINARY, payload) for payload in payloads]
    data = b"".join([frame(TEXT, b"wait"), *frames, end, frame(TEXT, b"behind")])
    expected = ["wait", *(payload if kind == "binary messages" else payload.decode() for payload in payloads)]
    pieces = [data] if code != 1006 else [data[: data.index(end) + len(end)]]
    outcome, _ = run(converse, pieces, has_fast_path=has_fast_path)
    assert list(outcome.messages) == expected
    assert outcome.closed is not None
    assert outcome.closed[0] == code


@pytest.mark.parametrize("is_busy", [False, True])
@pytest.mark.parametrize("kind", [PING, PONG, TEXT])
@pytest.mark.parametrize("size", [1 << 20, 1000])
def test_other_tasks_run_between_the_frames_of_a_large_read(kind: int, is_busy: bool, size: int) -> None:
    """However many frames are in it, and whether or not the connection's task waits for something."""
    count = 40 * FRAMES_PER_TURN
    turns: list[int] = []

    async def look() -> None:
        while True:
            turns.append(0)
            await trio.lowlevel.checkpoint()

    def handle_nowait(text: str) -> Callable[[], Awaitable[None]] | None:
        turns[-1] += 1
        return partial(trio.sleep, 1) if text else None

    def on_frames(number: int) -> None:
        turns[-1] += number

    async def play() -> int:
        client, server = socket_pair()
        async with client, server, trio.open_nursery() as nursery:
            # Pongs wait for a flush that never comes, and so for no reader.
            outbox, _ = open_outbox(server, 1 << 20, nursery.start_soon, schedule=lambda _flush: None)
            websocket = WebSocket(
                server,
                outbox,
                None,
                limit_bytes=LIMIT_BYTES,
                handle_nowait=handle_nowait,
                on_frames=on_frames,
                start_task=nursery.start_soon,
                fail=fail,
            )
            websocket.start(b"")
            data = (frame(TEXT, b"w") if is_busy else b"") + frame(kind) * count
            nursery.start_soon(look)
            await trio.lowlevel.checkpoint()
            for at in range(0, len(data), size):
                await client.send_all(data[at : at + size])
            await client.send_eof()
            while (message := await websocket.receive()) is not None:
                if callable(message):
                    await message()
            nursery.cancel_scope.cancel()
        return sum(turns)

    handled = trio.run(play)
    # Two turns of the reader may lie between two of the task that looks: their order is random.
    assert max(turns) <= 2 * FRAMES_PER_TURN
    if kind != TEXT:
        # A text that comes before the connection's task waits is handled by that.
        assert handled - count in {0, is_busy}


@pytest.mark.parametrize("end", [8, 9, 10])
@pytest.mark.parametrize("has_fast_path", [True, False])
def test_half_of_a_frame_at_the_end_of_the_stream_is_judged(end: int, has_fast_path: bool) -> None:
    half = frame(TEXT, b"a\xff\xffb")[:end]
    outcome, _ = run(converse, [half], has_fast_path=has_fast_path)
    assert outcome == run(converse_with_library, [half])
    assert outcome.closed == (1007, None)


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
        with trio.fail_after(60):
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
    assert by_fast_path == 6


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
    if 0 < size <= 125:
        assert unmask_short(key + masked) == payload


def test_a_frame_that_is_not_whole_is_held_and_no_more_than_one() -> None:
    taken: list[str] = []
    fast_path = FastPath(100, lambda text: not taken.append(text), no_control)  # type: ignore[func-returns-value]
    whole = frame(TEXT, b"hello")
    for byte in whole[:-1]:
        assert fast_path.feed(bytes([byte])) == b""
    assert not taken
    assert fast_path.feed(whole[-1:] + whole + whole[:3]) == b""
    assert taken == ["hello", "hello"]
    assert fast_path.take_held() == whole[:3]


def test_invalid_utf_8_is_found_once_its_frame_is_whole() -> None:
    fast_path = FastPath(100, lambda _text: True, no_control)
    bad = frame(TEXT, b"\xff\xff\xff")
    assert fast_path.feed(bad[:-1]) == b""
    assert fast_path.feed(bad[-1:]) == bad
    assert fast_path.feed(bad) == bad


def test_what_follows_a_message_that_has_to_wait_is_returned_untouched() -> None:
    texts: list[str] = []
    fast_path = FastPath(100, lambda text: texts.append(text) or text != "wait", no_control)  # type: ignore[func-returns-value]
    behind = frame(TEXT, b"behind") + frame(CLOSE, b"")[:3]
    assert fast_path.feed(frame(TEXT, b"one") + frame(TEXT, b"wait") + behind) == behind
    assert fast_path.feed(frame(TEXT, b"wait")) == b""
    assert texts == ["one", "wait", "wait"]


def test_a_large_frame_in_many_pieces_costs_no_more_than_its_size() -> None:
    size, piece = 16 << 20, 1024
    taken: list[int] = []
    fast_path = FastPath(size, lambda text: not taken.append(len(text)), no_control)  # type: ignore[func-returns-value]
    whole = frame(TEXT)[:1] + b"\xff" + size.to_bytes(8, "big") + bytes(4) + b"x" * size
    started = time.process_time()
    for at in range(0, len(whole), piece):
        assert fast_path.feed(whole[at : at + piece]) == b""
    # Some 0.1 s; to copy what is held for each piece would take 30 s.
    assert time.process_time() - started < 3
    assert taken == [size]


def test_a_frame_above_the_limit_is_passed_on_from_its_head_alone() -> None:
    fast_path = FastPath(100, lambda _text: True, no_control)
    head = frame(TEXT, b"x" * 101)[:2]
    assert fast_path.feed(head) == head
    assert fast_path.feed(frame(TEXT, b"x" * 101)) == frame(TEXT, b"x" * 101)
    long_head = frame(TEXT, b"x" * 200)[:4]
    assert fast_path.feed(long_head[:3]) == b"", "its length is not known yet"
    assert fast_path.feed(long_head[3:]) == long_head
