"""Frames as the Python clients write and read them, against another implementation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, Ping, TextMessage

from bench.load.frames import PING, TEXT, FrameReader, client_frame, client_frames

PAYLOADS = st.one_of(st.text(max_size=200), st.integers(100, 70_000).map("x".__mul__))


@given(PAYLOADS, st.binary(min_size=4, max_size=4))
def test_what_a_client_sends_is_read_by_a_server(text: str, mask: bytes) -> None:
    server = Connection(ConnectionType.SERVER)
    server.receive_data(client_frame(text.encode(), mask))
    [event] = server.events()
    assert isinstance(event, TextMessage)
    assert event.data == text
    assert event.message_finished


@given(st.lists(PAYLOADS, max_size=4), st.lists(st.integers(1, 5000), min_size=1, max_size=50))
def test_what_a_server_sends_is_read_however_it_is_cut(texts: list[str], sizes: list[int]) -> None:
    server = Connection(ConnectionType.SERVER)
    stream = b"".join([server.send(TextMessage(text)) for text in texts] + [server.send(Ping(b"there?"))])
    reader = FrameReader()
    frames: list[tuple[int, bytes]] = []
    for size in sizes:
        frames += reader.feed(stream[:size])
        stream = stream[size:]
    frames += reader.feed(stream)
    assert frames == [*((TEXT, text.encode()) for text in texts), (PING, b"there?")]


@pytest.mark.parametrize(
    "frame",
    [
        client_frame(b"masked", b"mask"),
        Connection(ConnectionType.SERVER).send(BytesMessage(b"part", message_finished=False)),
    ],
)
def test_what_no_server_sends_is_refused(frame: bytes) -> None:
    with pytest.raises(ValueError, match="fragment or masked"):
        list(FrameReader().feed(frame))


@given(st.binary(max_size=300), st.none() | st.integers(1, 310))
def test_fragments_are_the_message_again(payload: bytes, fragment_bytes: int | None) -> None:
    server = Connection(ConnectionType.SERVER)
    server.receive_data(client_frames(payload.hex().encode(), b"mask", fragment_bytes=fragment_bytes))
    events = list(server.events())
    assert "".join(event.data for event in events if isinstance(event, TextMessage)) == payload.hex()
    assert [event.message_finished for event in events].count(True) == 1
