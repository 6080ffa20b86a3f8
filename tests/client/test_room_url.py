"""Where a room is."""

import pytest

from broker.client.link import room_url
from broker.model import Position


@pytest.mark.parametrize(
    ("server", "room", "since", "expected"),
    [
        ("http://127.0.0.1:8000", "lobby", None, "ws://127.0.0.1:8000/ws/lobby"),
        ("https://rooms.example/", "a b", None, "wss://rooms.example/ws/a%20b"),
        ("ws://host:1/below", "ü", None, "ws://host:1/below/ws/%C3%BC"),
        ("wss://host", "x", Position("e&1", 7), "wss://host/ws/x?offset=7&epoch=e%261"),
    ],
)
def test_a_room_has_an_address_on_its_server(server, room, since, expected):
    assert room_url(server, room, since) == expected


@pytest.mark.parametrize("server", ["localhost:8000", "ftp://host", "", "http://"])
def test_what_is_no_server_is_refused(server):
    with pytest.raises(ValueError, match="is no http"):
        room_url(server, "x", None)
