"""Frames for clients with permessage-deflate, read back by an independent implementation."""

import random
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
from websockets.streams import StreamReader

from broker.config.settings import WebSocketSettings
from broker.model import Event
from broker.notices import Gap, Notice, RoomEvent
from broker.sessions.deflate_tally import DeflateTally
from broker.transport.deflate.codec import MAX_KEPT_BYTES, MAX_TEXT_BYTES, Deflate, DeflateCodec
from broker.transport.deflate.negotiation import Agreement
from broker.transport.frames import WebSocketCodec

PLAIN = WebSocketCodec()


def open_codec(
    *, window_bits: int = 15, level: int = 1, min_bytes: int = 1
) -> tuple[DeflateCodec, DeflateTally]:
    tally = DeflateTally()
    return DeflateCodec(PLAIN, window_bits=window_bits, level=level, min_bytes=min_bytes, tally=tally), tally


def event_of(text: str, offset: int = 1) -> RoomEvent:
    content = msgspec.json.encode({"type": "chat", "text": text})
    return RoomEvent("lobby", "epoch", Event(content, 1_700_000_000_000, offset))


def texts_of(data: bytes, window_bits: int = 15) -> list[bytes]:
    """Return the messages of frames, inflated one by one and with no larger window than was agreed on."""
    reader = StreamReader()
    reader.feed_data(data)
    texts = []
    while reader.buffer:
        parsing = Frame.parse(
            reader.read_exact,
            mask=False,
            extensions=[PerMessageDeflate(True, True, window_bits, 15)],
        )
        try:
            next(parsing)
        except StopIteration as done:
            frame = done.value
        assert frame.fin
        texts.append(bytes(frame.data))
    return texts


# Of few words, so that there is something to refer back to, near and far.
WORDY = st.lists(st.sampled_from(["room", "greenroom", "{}", "é", "x" * 300]), max_size=300).map(" ".join)
NOTICES: st.SearchStrategy[Notice] = st.one_of(
    st.builds(event_of, st.text(st.characters(exclude_categories=["Cs"])) | WORDY),
    st.builds(Gap, st.just("lobby"), st.integers(1, 5), st.integers(5, 9)),
)


@given(
    notices=st.lists(NOTICES, min_size=1, max_size=5),
    window_bits=st.integers(9, 15),
    level=st.integers(1, 9),
    min_bytes=st.sampled_from([1, 100, 256, 10_000]),
)
def test_any_notices_are_read_back_with_the_window_that_was_agreed_on(
    notices: Sequence[Notice], window_bits: int, level: int, min_bytes: int
) -> None:
    codec, _ = open_codec(window_bits=window_bits, level=level, min_bytes=min_bytes)
    expected = texts_of(PLAIN.encode(notices))
    # Twice, as the second time a part of it is kept.
    for _ in range(2):
        assert texts_of(codec.encode(notices), window_bits) == expected
    assert b"".join(codec.encode([notice]) for notice in notices) == codec.encode(notices)


def is_compressed(frame: bytes) -> bool:
    return frame[0] == 0xC1


def test_small_and_very_large_messages_stay_as_they_are() -> None:
    around = len(texts_of(PLAIN.encode([event_of("")]))[0])
    codec, tally = open_codec(min_bytes=256)
    for size, expected in ((255, False), (256, True), (MAX_TEXT_BYTES, True), (MAX_TEXT_BYTES + 1, False)):
        event = event_of("a" * (size - around))
        frame = codec.encode([event])
        assert is_compressed(frame) == expected, size
        assert expected or frame == PLAIN.encode([event])
    assert tally.plain_bytes > tally.compressed_bytes > 0


def test_what_does_not_shrink_is_sent_plain() -> None:
    codec, tally = open_codec()
    # No byte twice: there is nothing to refer back to, and no code is shorter than a byte.
    content = b'{"type":"' + bytes(random.Random(1).sample(range(256), 200)) + b'"}'
    noise = RoomEvent("", "", Event(content, 1, None))
    assert codec.encode([noise]) == PLAIN.encode([noise])
    assert tally.plain_bytes == 0


def test_an_event_is_compressed_once_for_all_who_get_it() -> None:
    codec, tally = open_codec()
    events = [event_of("hello " * 50, offset) for offset in range(1, 4)]
    whole = codec.encode(events)
    counted = tally.plain_bytes
    assert counted == len(PLAIN.encode(events))
    # Members with filters, or who are excluded from some, get others of the same.
    assert codec.encode(events[1:]) == whole[len(codec.encode(events[:1])) :]
    assert tally.plain_bytes == counted
    # An equal event is not the same.
    codec.encode([event_of("hello " * 50, 1)])
    assert tally.plain_bytes > counted


def test_kept_frames_are_bounded() -> None:
    codec, tally = open_codec()
    event = event_of("0123456789" * 1000)
    size = len(codec.encode([event]))
    generator = random.Random(2)
    for number in range(2 * MAX_KEPT_BYTES // size):
        codec.encode([event_of(generator.randbytes(8).hex() * 1000, number)])
    before = tally.plain_bytes
    assert codec.encode([event])
    assert tally.plain_bytes > before


def test_connections_with_the_same_agreement_and_settings_share_a_codec() -> None:
    deflate = Deflate()
    settings = WebSocketSettings()
    first = deflate.codec_of(PLAIN, Agreement(), settings)
    assert deflate.codec_of(PLAIN, Agreement(15, names_window=True), settings) is first
    others = [
        deflate.codec_of(PLAIN, Agreement(10, names_window=True), settings),
        deflate.codec_of(PLAIN, Agreement(), WebSocketSettings(compression_level=9)),
        deflate.codec_of(PLAIN, Agreement(), WebSocketSettings(compression_min_bytes=1)),
        deflate.codec_of(WebSocketCodec(), Agreement(), settings),
    ]
    assert len({first, *others}) == 5
    assert deflate.tally.connections == 6


@pytest.mark.parametrize("size", [1, 249, 250, 251, 511, 512, 513, 32_768, 65_536, 100_000])
@pytest.mark.parametrize("window_bits", [9, 12, 15])
def test_references_stay_within_the_window_at_its_edges(size: int, window_bits: int) -> None:
    """The window that zlib is given depends on the size of the message."""
    unit = random.Random(size).randbytes(min(size, 5000)).hex()
    event = event_of((unit * (size // len(unit) + 1))[:size])
    codec, _ = open_codec(window_bits=window_bits, level=9)
    assert texts_of(codec.encode([event]), window_bits) == texts_of(PLAIN.encode([event]))
