"""Compressed messages of clients: any that is valid comes to its text, and none takes more memory than its limit."""

import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from functools import partial

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.errors import CloseCode
from broker.transport.deflate.inflation import (
    MAX_FINAL_BLOCKS,
    SPARE_INPUT_BYTES,
    InflateError,
    Inflater,
    inflate_message,
)
from tests.transport.conversations import (
    CLOSE,
    CONTINUATION,
    LIMIT_BYTES,
    PING,
    TEXT,
    Octets,
    converse,
    cut_up,
    frame,
    run,
)

FLUSHED = b"\x00\x00\xff\xff"
COMPRESSED = 4
"""The first reserved bit."""
BINARY = 2


def compress(
    data: bytes, *, level: int = 6, window_bits: int = 15, strategy: int = zlib.Z_DEFAULT_STRATEGY
) -> bytes:
    """Return a message as section 7.2.1 has it."""
    deflater = zlib.compressobj(level, zlib.DEFLATED, -window_bits, 8, strategy)
    return Octets((deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(FLUSHED))


def compress_in_parts(parts: Sequence[bytes], flushes: Sequence[int]) -> bytes:
    """Return a message whose parts are flushed, each in its way."""
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    data = b""
    for part, flush in zip(parts, flushes, strict=True):
        data += deflater.compress(part) + deflater.flush(flush)
        if flush == zlib.Z_FINISH:
            deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    return Octets((data + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(FLUSHED))


# Section 7.2.3: the examples, each a message that says Hello.
HELLO = {
    "7.2.3.1 one block": "f2 48 cd c9 c9 07 00",
    "7.2.3.3 a block without compression": "00 05 00 fa ff 48 65 6c 6c 6f 00",
    "7.2.3.4 a last block": "f3 48 cd c9 c9 07 00 00",
    "7.2.3.5 two blocks": "f2 48 05 00 00 00 ff ff ca c9 c9 07 00",
    "a last block and nothing behind it": "f3 48 cd c9 c9 07 00",
}


@pytest.mark.parametrize("name", HELLO)
def test_the_examples_of_the_rfc(name: str) -> None:
    assert inflate_message(bytes.fromhex(HELLO[name]), 5) == b"Hello"
    assert inflate_message(bytes.fromhex(HELLO[name]), 4) is None


@pytest.mark.parametrize("data", ["00", ""])
def test_an_empty_message(data: str) -> None:
    # Section 7.2.3.6; some senders send nothing at all.
    assert inflate_message(bytes.fromhex(data), 1) == b""


PARTS = st.lists(st.text(max_size=50).map(str.encode) | st.just(Octets(b"ab" * 2000)), min_size=1, max_size=5)
FLUSHES = st.sampled_from(
    [zlib.Z_NO_FLUSH, zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH, zlib.Z_BLOCK]
)
PAYLOADS = st.one_of(
    st.builds(
        lambda parts, level, window_bits, strategy: (
            b"".join(parts),
            compress(b"".join(parts), level=level, window_bits=window_bits, strategy=strategy),
        ),
        PARTS,
        st.integers(0, 9),
        st.integers(9, 15),
        st.sampled_from(
            [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED]
        ),
    ),
    PARTS.flatmap(
        lambda parts: st.lists(FLUSHES, min_size=len(parts), max_size=len(parts)).map(
            lambda flushes: (b"".join(parts), compress_in_parts(parts, flushes))
        )
    ),
)
"""Texts, each with a payload that says it."""


def pieces_of(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Return data in pieces of these sizes and a last one."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


SIZES = st.lists(st.integers(0, 40), max_size=6)


@given(payload=PAYLOADS, sizes=SIZES)
@settings(max_examples=50)
def test_any_compressor_and_any_pieces_come_to_the_same(
    payload: tuple[bytes, bytes], sizes: list[int]
) -> None:
    text, compressed = payload
    inflater = Inflater(len(text))
    pieces = [inflater.inflate(piece) for piece in pieces_of(compressed, sizes)]
    assert b"".join([*pieces, inflater.finish()]) == text
    if text:
        assert inflate_message(compressed, len(text) - 1) is None


@given(
    text=st.text(st.characters(codec="ascii"), min_size=1, max_size=300),
    at=st.integers(0),
    level=st.integers(1, 9),
)
@settings(max_examples=50)
def test_a_message_that_is_cut_off_is_none(text: str, at: int, level: int) -> None:
    """Of ASCII, for which no block is stored: where bytes of such a block are missing, the flush passes for them."""
    whole = compress(text.encode(), level=level)
    cut = whole[: 1 + at % (len(whole) - 1)]
    assert inflate_message(cut, 1000) is None


@given(st.binary(max_size=200))
@example(b"\xff")
def test_any_bytes_inflate_or_are_refused(data: bytes) -> None:
    inflated = inflate_message(data, 1000)
    if inflated is not None:
        reader = zlib.decompressobj(-15)
        found = reader.decompress(data + FLUSHED)
        assert inflated.startswith(found)
        assert inflated == found or reader.eof


INVALID = {
    "no such block": b"\x07",
    "a stored block whose length does not match": b"\x00\x05\x00\x00\x00Hello",
    "a reference before the beginning": b"\x4b\x04\x11\x00",
    "half of a code": compress(b"Hello, hello, hello")[:5],
    "half of a stored block": bytes.fromhex("00 05 00 fa ff 48 65"),
    "with the end of the flush": compress(b"Hello") + FLUSHED + b"\x01",
    "garbage behind the last block": bytes.fromhex("f3 48 cd c9 c9 07 00") + b"\xff\xff",
    "a zlib header": zlib.compress(b"Hello"),
    "plain text": b'{"type":"ping"}',
}
BOMB = compress(b"\0" * (64 << 20), level=9)
TOO_BIG = {
    "one byte": compress(b"x" * (LIMIT_BYTES + 1)),
    "a bomb": BOMB,
    "empty blocks": b"\x00\x00\x00\xff\xff" * ((2 * LIMIT_BYTES + SPARE_INPUT_BYTES) // 5 + 1),
    "last blocks": b"\x03\x00" * (MAX_FINAL_BLOCKS + 2),
}
CODES = {
    **{name: (CloseCode.INVALID_UTF8, payload) for name, payload in INVALID.items()},
    **{name: (CloseCode.MESSAGE_TOO_BIG, payload) for name, payload in TOO_BIG.items()},
}


@pytest.mark.parametrize("name", CODES)
def test_what_cannot_be_inflated_says_why(name: str) -> None:
    code, payload = CODES[name]
    inflater = Inflater(LIMIT_BYTES)

    def inflate() -> None:
        inflater.inflate(payload)
        inflater.finish()

    with pytest.raises(InflateError) as caught:
        inflate()
    assert caught.value.code == code


@pytest.mark.parametrize("piece_bytes", [1 << 20, 1000])
def test_a_bomb_takes_no_more_memory_than_its_limit(piece_bytes: int) -> None:
    def explode() -> None:
        inflater = Inflater(LIMIT_BYTES)
        for at in range(0, len(BOMB), piece_bytes):
            inflater.inflate(BOMB[at : at + piece_bytes])

    tracemalloc.start()
    try:
        with pytest.raises(InflateError):
            explode()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # What is left of the piece, the message and its copy; the bomb is of 64 MiB.
    assert peak < len(BOMB) + 4 * LIMIT_BYTES


# Whole connections


def message_frames(
    payload: bytes, sizes: Sequence[int], *, between: bytes = b"", opcode: int = TEXT, key: bytes = b"mask"
) -> bytes:
    """Return a compressed message in fragments of these sizes and a last one, with other frames between them."""
    parts = pieces_of(payload, sizes)
    return Octets(
        between.join(
            frame(
                CONTINUATION if number else opcode,
                part,
                fin=number == len(parts) - 1,
                reserved=0 if number else COMPRESSED,
                key=key,
            )
            for number, part in enumerate(parts)
        )
    )


@attrs.frozen
class Spoken:
    """A message as it is sent, with and without compression."""

    plain: bytes
    compressed: bytes


def spoken(payload: tuple[bytes, bytes], sizes: list[int], has_pings: bool, key: bytes) -> Spoken:
    text, compressed = payload
    between = frame(PING, b"p") if has_pings else b""
    pings = between * len(sizes)
    return Spoken(pings + frame(TEXT, text), message_frames(compressed, sizes, between=between, key=key))


def same(data: bytes) -> Spoken:
    return Spoken(data, data)


SPOKEN = st.one_of(
    st.builds(spoken, PAYLOADS, SIZES | st.just([]), st.booleans(), st.binary(min_size=4, max_size=4)),
    st.builds(spoken, PAYLOADS, st.just([]), st.just(False), st.binary(min_size=4, max_size=4)),
    st.sampled_from(
        [
            frame(TEXT, b"plain"),
            frame(PING, b"p"),
            frame(TEXT, b"pla", fin=False) + frame(PING, b"p") + frame(CONTINUATION, b"in"),
            frame(BINARY, b"\xff"),
        ]
    ).map(same),
    st.just(Spoken(frame(BINARY, b"\xff"), message_frames(compress(b"\xff"), [1], opcode=BINARY))),
)
CUTS = st.one_of(st.none(), st.just(0), st.integers(0, 12))


@given(conversation=st.lists(st.tuples(SPOKEN, CUTS), min_size=1, max_size=8))
@settings(max_examples=20)
def test_any_frames_and_any_pieces_come_to_what_the_plain_messages_come_to(
    conversation: list[tuple[Spoken, int | None]],
) -> None:
    end = (frame(CLOSE, b"\x03\xe8"), 0)
    plain = cut_up([*[(message.plain, cut) for message, cut in conversation], end])
    compressed = cut_up([*[(message.compressed, cut) for message, cut in conversation], end])
    expected, _ = run(converse, plain, has_fast_path=True)
    for has_fast_path in (True, False):
        found, _ = run(converse, compressed, has_fast_path=has_fast_path, inflates=True)
        assert found == expected


good = message_frames(compress(b"good"), [])
ENDS: dict[str, tuple[CloseCode, bytes]] = {
    **{f"{name}, whole": (code, message_frames(payload, [])) for name, (code, payload) in CODES.items()},
    **{
        f"{name}, in fragments": (code, message_frames(payload, [1, 1]))
        for name, (code, payload) in CODES.items()
    },
    "no text": (CloseCode.INVALID_UTF8, message_frames(compress(b"\xc3("), [])),
    "no text, in fragments": (CloseCode.INVALID_UTF8, message_frames(compress(b"\xc3("), [2])),
    "a binary bomb": (CloseCode.MESSAGE_TOO_BIG, message_frames(BOMB, [], opcode=BINARY)),
    "a bomb without an end": (
        CloseCode.MESSAGE_TOO_BIG,
        frame(TEXT, BOMB, fin=False, reserved=COMPRESSED),
    ),
    "another reserved bit": (CloseCode.PROTOCOL_ERROR, frame(TEXT, compress(b"x"), reserved=6)),
    "only another reserved bit": (CloseCode.PROTOCOL_ERROR, frame(TEXT, compress(b"x"), reserved=2)),
    "the bit on a continuation": (
        CloseCode.PROTOCOL_ERROR,
        frame(TEXT, compress(b"hello")[:3], fin=False, reserved=COMPRESSED)
        + frame(CONTINUATION, compress(b"hello")[3:], reserved=COMPRESSED),
    ),
    "the bit on a fragment of a plain message": (
        CloseCode.PROTOCOL_ERROR,
        frame(TEXT, b"x", fin=False) + frame(CONTINUATION, compress(b"x"), reserved=COMPRESSED),
    ),
    "the bit on a ping": (CloseCode.PROTOCOL_ERROR, frame(PING, b"x", reserved=COMPRESSED)),
    "a message within a message": (
        CloseCode.PROTOCOL_ERROR,
        frame(TEXT, compress(b"hello"), fin=False, reserved=COMPRESSED) + good,
    ),
    "a plain message within a message": (
        CloseCode.PROTOCOL_ERROR,
        frame(TEXT, b"", fin=False, reserved=COMPRESSED) + frame(TEXT, b"plain"),
    ),
    "a compressed message within a plain one": (
        CloseCode.PROTOCOL_ERROR,
        frame(TEXT, b"x", fin=False) + good,
    ),
    "a continuation of nothing": (CloseCode.PROTOCOL_ERROR, good + frame(CONTINUATION, compress(b"x"))),
    "no mask": (CloseCode.PROTOCOL_ERROR, frame(TEXT, compress(b"x"), reserved=COMPRESSED, key=None)),
    "no mask on a continuation": (
        CloseCode.PROTOCOL_ERROR,
        frame(TEXT, b"", fin=False, reserved=COMPRESSED) + frame(CONTINUATION, compress(b"x"), key=None),
    ),
    "a length that is too long": (
        CloseCode.PROTOCOL_ERROR,
        frame(TEXT, compress(b"x"), reserved=COMPRESSED, length_bytes=2),
    ),
    "a length of a continuation that is too long": (
        CloseCode.PROTOCOL_ERROR,
        frame(TEXT, b"", fin=False, reserved=COMPRESSED)
        + frame(CONTINUATION, compress(b"x"), length_bytes=8),
    ),
}


@pytest.mark.parametrize("has_fast_path", [True, False])
@pytest.mark.parametrize("name", ENDS)
def test_an_invalid_message_ends_the_connection_behind_those_before_it(
    name: str, has_fast_path: bool
) -> None:
    code, end = ENDS[name]
    before = good + message_frames(compress(b"in parts"), [2, 3]) + frame(TEXT, b"plain") + good
    data = before + end
    expected = ("good", "in parts", "plain", "good", *(("good",) if end.startswith(good) else ()))
    for size in (len(data), max(5, len(data) // 60)):
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        outcome, _ = run(converse, pieces, has_fast_path=has_fast_path, inflates=True)
        assert outcome.messages == expected
        assert outcome.closed is not None
        assert outcome.closed[0] == code


def test_the_peer_is_told_why() -> None:
    answers = {
        name: run(converse, [ENDS[f"{name}, whole"][1]], has_fast_path=True, inflates=True)[0]
        for name in ("a bomb", "no such block")
    }
    assert answers["a bomb"].written == b"\x88\x11\x03\xf1message too big"
    assert answers["no such block"].closed[0] == CloseCode.INVALID_UTF8


def test_whole_compressed_texts_are_the_fast_paths() -> None:
    data = good * 20 + frame(PING, b"p") + good
    outcome, by_fast_path = run(converse, [data], has_fast_path=True, inflates=True)
    assert outcome.messages == ("good",) * 21
    assert by_fast_path == 21


def test_without_an_agreement_a_compressed_message_is_an_error() -> None:
    for has_fast_path in (True, False):
        outcome, _ = run(converse, [frame(TEXT, b"a") + good], has_fast_path=has_fast_path)
        assert outcome.messages == ("a",)
        assert outcome.closed is not None
        assert outcome.closed[0] == CloseCode.PROTOCOL_ERROR


def test_a_message_that_does_not_shrink_may_be_as_large_as_the_limit() -> None:
    text = "".join(chr(0x20 + number * number * 7919 % 0x5E) for number in range(LIMIT_BYTES)).encode()
    stored = compress(text, level=0)
    assert len(stored) > LIMIT_BYTES
    many: Callable[..., bytes] = partial(message_frames, stored)
    for data in (many([]), many([30_000, 1, 0, 20_000])):
        outcome, _ = run(converse, [data + frame(CLOSE)], has_fast_path=True, inflates=True)
        assert outcome.messages == (text.decode(),)
