"""Where a server is."""

import pytest

from broker.client.address import Address, parse_address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8000", Address("127.0.0.1", 8000, False, "127.0.0.1:8000", "/ws")),
        ("https://rooms.example/", Address("rooms.example", 443, True, "rooms.example", "/ws")),
        ("ws://host:1/below", Address("host", 1, False, "host:1", "/below/ws")),
        ("wss://[::1]:9", Address("::1", 9, True, "[::1]:9", "/ws")),
    ],
)
def test_a_server_has_an_address(url, address):
    assert parse_address(url) == address


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "", "http://", "http://host:x"])
def test_what_is_no_server_is_refused(url):
    with pytest.raises(ValueError, match=r"is no http|Port could not"):
        parse_address(url)
