"""The request head: read from any pieces, bounded in bytes and time."""

import re
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import MockClock, assert_checkpoints, memory_stream_one_way_pair

from broker.transport.head import (
    BAD_REQUEST,
    Head,
    HeadError,
    check_beginning,
    check_request,
    parse_head,
    read_head,
)

MAX_BYTES = 200

LINES = st.sampled_from(
    [
        b"A: b\nHost: c", b" folded", b"\tfolded", b"\n", b"GET /ws/lobby?token=x HTTP/1.1", b"GET  / HTTP/1.1", b"nonsense", b"", b"Upgrade: websocket",
        b"UPGRADE:WebSocket ", b"Host: a", b"no colon", b": empty", b"X: \xff\x00", b"a" * 120,
    ]
)  # fmt: skip
HEADS = st.lists(LINES, max_size=6).map(b"\r\n".join)
BYTES = st.one_of(
    st.binary(max_size=400),
    st.builds(lambda head, rest: head + b"\r\n\r\n" + rest, HEADS, st.binary(max_size=40)),
    st.lists(st.sampled_from([b"\r", b"\n", b"\r\n\r\n", b"GET / HTTP/1.1", b"x" * 90]), max_size=12).map(
        b"".join
    ),
)


class Pieces(trio.abc.ReceiveStream):
    """Gives out given pieces, then the end; nothing more while it `is_open`."""

    def __init__(self, pieces: Sequence[bytes], *, is_open: bool = False) -> None:
        self.pieces = [piece for piece in pieces if piece]
        self.is_open = is_open

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.is_open and not self.pieces:
            await trio.sleep_forever()
        return self.pieces.pop(0) if self.pieces else b""

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def read_pieces(pieces: Sequence[bytes]) -> tuple[object, bytes]:
    """Return what reading gives (a head without what came behind it, or an error), and all that was read."""
    stream = Pieces(pieces)
    try:
        head = await read_head(stream, max_bytes=MAX_BYTES, timeout_seconds=10)
    except HeadError as error:
        return (str(error), error.response), b""
    if head is None:
        return None, b""
    return (head.target, head.headers), head.raw + b"".join(stream.pieces)


@given(BYTES, st.lists(st.integers(0, 400), max_size=8))
@example(b"GET / HTTP/1.1\r\n\r\n", list(range(1, 18)))
@example(b"GET / HTTP/1.1\r\nA: " + b"b" * (MAX_BYTES - 23) + b"\r\n\r\n", [MAX_BYTES - 1])
@example(b"GET / HTTP/1.1\r\nA: " + b"b" * (MAX_BYTES - 22) + b"\r\n\r\n", [MAX_BYTES - 1])
def test_any_split_gives_the_same(data: bytes, cuts: list[int]) -> None:
    places = sorted({0, *(min(cut, len(data)) for cut in cuts), len(data)})
    pieces = [data[a:b] for a, b in pairwise(places)]

    async def compare() -> None:
        whole, kept = await read_pieces([data])
        assert await read_pieces(pieces) == (whole, kept)
        if kept:
            assert kept == data, "what comes behind the head is kept"
            end = re.search(rb"\n\r?\n", data)
            assert end is not None
            assert end.end() <= MAX_BYTES

    trio.run(compare)


@given(BYTES)
def test_parsing_gives_a_head_or_a_head_error(data: bytes) -> None:
    try:
        head = parse_head(data)
    except HeadError as error:
        answer = error.response
    else:
        check_head(head, data)
        answer = BAD_REQUEST
    assert answer == BAD_REQUEST


def check_head(head: Head, data: bytes) -> None:
    assert head.target.encode("latin-1") in data
    assert head.path + ("?" + head.query if head.query else "") in {head.target, head.target[:-1]}
    assert "token" not in repr(head)


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\n\r\n", b"\r\n\n"])
@pytest.mark.parametrize("before", [b"", b"\r\n"])
def test_what_comes_behind_a_head_is_known_however_its_lines_end(before: bytes, end: bytes) -> None:
    head = parse_head(before + b"GET /ws HTTP/1.1\nHost: a" + end + b"\r\n\r\nrest")
    assert (head.headers, head.behind) == (((b"host", b"a"),), b"\r\n\r\nrest")


def test_a_head_knows_where_it_wants_to_go() -> None:
    head = parse_head(
        b"GET /ws/a%20b?token=x&y=1?2 HTTP/1.1\r\nuPGRADE:  WebSocket\r\nORIGIN: http://a\r\nOrigin: b\r\n\r\nrest"
    )
    assert (head.path, head.query) == ("/ws/a%20b", "token=x&y=1?2")
    assert head.is_websocket
    assert head.header(b"origin") == "http://a"
    assert head.header(b"host") is None
    assert head.raw.endswith(b"rest")


@pytest.mark.parametrize("upgrade", [b"", b"Upgrade: h2c\r\n", b"Upgraded: websocket\r\n"])
def test_a_head_that_wants_no_websocket(upgrade: bytes) -> None:
    assert not parse_head(b"GET /ws HTTP/1.1\r\n" + upgrade + b"\r\n").is_websocket


@pytest.mark.parametrize(
    "garbage", [b"\r\n\r\n", b"hello\r\n\r\n", b"GET /\r\n\r\n", b"GET / FTP/1.0\r\n\r\n", b"\0\xff \r\n\r\n"]
)
async def test_garbage_is_answered_with_400(garbage: bytes) -> None:
    with pytest.raises(HeadError) as caught:
        await read_head(Pieces([garbage]), max_bytes=MAX_BYTES, timeout_seconds=1)
    assert caught.value.response.startswith(b"HTTP/1.1 400 ")


TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize("before", [b"", b"\r\n"])
@pytest.mark.parametrize("first", range(256))
def test_a_first_byte_that_begins_no_request_is_refused_without_the_rest(first: int, before: bytes) -> None:
    # RFC 9112 sections 2.2 and 3: a token begins a request line, an empty line may come before it.
    may_begin = first in TOKEN or first == 0x0D
    with nullcontext() if may_begin else pytest.raises(HeadError, match="not an HTTP request"):
        check_beginning(before + bytes([first]))


BEGINNINGS = {
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "PROXY protocol 1": b"PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\n",
    "PROXY protocol 2": b"\r\n\r\n\x00\r\nQUIT\n\x21\x11",
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP/0.9": b"GET /\r\n",
    "no method": b" /ws HTTP/1.1",
    "two blanks": b"GET  /ws",
    "a blank line end": b"\r\nGET\r\n",
}


@pytest.mark.parametrize("data", BEGINNINGS.values(), ids=BEGINNINGS)
async def test_other_protocols_are_refused_without_waiting_for_an_empty_line(
    data: bytes, autojump_clock: MockClock
) -> None:
    with pytest.raises(HeadError, match="not an HTTP request"):
        await read_head(Pieces([data], is_open=True), max_bytes=MAX_BYTES, timeout_seconds=10)
    assert trio.current_time() == 0


@given(st.data())
def test_no_beginning_of_a_request_line_is_refused(data: st.DataObject) -> None:
    target = data.draw(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1))
    line = b"%bGET %b HTTP/1.1\r\n" % (data.draw(st.sampled_from([b"", b"\r\n"])), target.encode())
    check_beginning(line[: data.draw(st.integers(0, len(line)))])


@pytest.mark.parametrize("target", [b"a:1", b"*", b"/", b"http://a/", b"/ws"])
def test_connect_is_not_implemented(target: bytes) -> None:
    head = parse_head(b"CONNECT %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)
    with pytest.raises(HeadError) as caught:
        check_request(head)
    assert caught.value.status == 501


@pytest.mark.parametrize("pieces", [[b"x" * 500], [b"x"] * 500, [b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 100]])
async def test_a_head_too_long_is_answered_with_431_and_read_no_further(pieces: list[bytes]) -> None:
    stream = Pieces([*pieces, b"more"])
    with pytest.raises(HeadError) as caught:
        await read_head(stream, max_bytes=MAX_BYTES, timeout_seconds=1)
    assert caught.value.response.startswith(b"HTTP/1.1 431 ")
    assert b"Connection: close\r\n" in caught.value.response
    assert stream.pieces


async def test_a_slow_head_is_answered_with_408_when_its_time_is_over(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    send, receive = memory_stream_one_way_pair()

    async def drip() -> None:
        for _ in range(100):
            await send.send_all(b"x")
            await trio.sleep(1)

    nursery.start_soon(drip)
    started = trio.current_time()
    with pytest.raises(HeadError) as caught:
        await read_head(receive, max_bytes=MAX_BYTES, timeout_seconds=10)
    assert caught.value.response.startswith(b"HTTP/1.1 408 ")
    assert trio.current_time() - started == pytest.approx(10)
    nursery.cancel_scope.cancel()


async def test_silence_is_answered_with_silence(autojump_clock: MockClock) -> None:
    send, receive = memory_stream_one_way_pair()
    started = trio.current_time()
    assert await read_head(receive, max_bytes=MAX_BYTES, timeout_seconds=10) is None
    assert trio.current_time() - started == pytest.approx(10)
    await send.aclose()
    assert await read_head(receive, max_bytes=MAX_BYTES, timeout_seconds=10) is None


async def test_a_head_that_ends_early_has_nobody_to_be_answered() -> None:
    with pytest.raises(HeadError) as caught:
        await read_head(Pieces([b"GET / HTT"]), max_bytes=MAX_BYTES, timeout_seconds=1)
    assert caught.value.response == b""


async def test_being_cancelled_is_not_a_slow_head() -> None:
    _send, receive = memory_stream_one_way_pair()
    with trio.CancelScope() as scope:
        scope.cancel()
        with assert_checkpoints():
            await read_head(receive, max_bytes=MAX_BYTES, timeout_seconds=10)
    assert scope.cancelled_caught


def test_a_token_in_the_target_shows_in_no_repr() -> None:
    assert "secret" not in repr(Head(b"secret", "/ws?token=secret", ((b"authorization", b"secret"),)))
