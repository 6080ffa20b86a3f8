"""Frames, read back by an independent implementation."""

import json

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, TextMessage

from broker.errors import CloseCode, ErrorCode, Refused
from broker.model import Event, Position
from broker.notices import Acknowledged, Failed, Gap, Joined, Notice, Pong, RoomEvent, UserLeft
from broker.protocol.codec import encode_notice
from broker.transport.frames import PING, WebSocketCodec, close_frame, is_close_frame, text_frame

EDGES = [0, 1, 124, 125, 126, 127, 65_534, 65_535, 65_536, 65_537, 200_000]


def read_back(data: bytes) -> list[str]:
    """Return the text messages in server frames."""
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(data)
    messages, text = [], ""
    for event in client.events():
        assert isinstance(event, TextMessage), event
        text += event.data
        if event.message_finished:
            messages.append(text)
            text = ""
    assert not text, "the last message is not finished"
    return messages


@pytest.mark.parametrize("size", EDGES)
def test_frames_of_every_length_form_are_read_back(size: int) -> None:
    payload = b"x" * size
    assert read_back(text_frame(payload) + text_frame(b"behind")) == [payload.decode(), "behind"]


@given(st.lists(st.text(max_size=300), max_size=5))
def test_joined_frames_are_read_back_one_by_one(texts: list[str]) -> None:
    assert read_back(b"".join(text_frame(text.encode()) for text in texts)) == texts


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
EVENTS = st.builds(
    Event,
    st.dictionaries(NAMES, st.text(st.characters(exclude_categories=["Cs"])), min_size=1).map(
        msgspec.json.encode
    ),
    st.integers(0, 2**53),
    st.none() | st.integers(1, 2**53),
)
NOTICES: st.SearchStrategy[Notice] = st.one_of(
    st.builds(RoomEvent, NAMES, NAMES, EVENTS),
    st.builds(UserLeft, NAMES, NAMES, st.integers(0, 10)),
    st.builds(Gap, NAMES, st.integers(1, 5), st.integers(5, 9)),
    st.builds(Pong, st.none() | NAMES | st.integers(-(2**63), 2**63 - 1)),
    st.builds(Failed, st.builds(Refused, st.sampled_from(ErrorCode), NAMES, st.none() | st.integers(0))),
    st.builds(Acknowledged, NAMES, st.none() | st.builds(Position, NAMES, st.integers(1, 9)), NAMES),
    st.builds(
        Joined, NAMES, st.integers(1, 9), st.builds(Position, NAMES, st.integers(0, 9)), st.booleans(),
        st.lists(EVENTS, max_size=3).map(tuple),
    ),
)  # fmt: skip


@given(st.lists(NOTICES, max_size=6))
def test_a_batch_of_notices_is_one_text_message_each(notices: list[Notice]) -> None:
    messages = read_back(WebSocketCodec().encode(notices))
    assert [message.encode() for message in messages] == [encode_notice(notice) for notice in notices]
    for message in messages:
        assert isinstance(json.loads(message), dict)


def test_a_ping_is_read_back() -> None:
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(PING)
    assert list(client.events()) == [Ping(payload=b"")]


@example(CloseCode.REMOVED, "x" * 123)
@example(CloseCode.REMOVED, "x" * 124)
@example(CloseCode.REMOVED, "\u20ac" * 41)
@example(CloseCode.REMOVED, "x" + "\u20ac" * 41)
@example(CloseCode.REMOVED, "xx" + "\U0001f600" * 31)
@given(st.sampled_from(CloseCode), st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_a_close_frame_is_read_back_with_as_much_of_its_reason_as_may_stand(
    code: CloseCode, reason: str
) -> None:
    frame = close_frame(code, reason)
    assert is_close_frame(frame)
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(frame)
    (event,) = client.events()
    assert isinstance(event, CloseConnection)
    assert event.code == code
    assert reason.startswith(event.reason or "")
    assert len(reason.encode()) > 119 or (event.reason or "") == reason


@given(st.binary(max_size=200))
def test_no_other_frame_is_taken_for_a_close_frame(payload: bytes) -> None:
    assert not is_close_frame(text_frame(payload))
    assert not is_close_frame(PING)
    assert not is_close_frame(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
