"""The path of a request target."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quart.wrappers import Request
from werkzeug.datastructures import Headers

from broker.http.target import routed_path

PIECES = st.sampled_from(
    ["/", "//", "api", "API", "rooms", "..", ".", ":", "://", "http", "%2f", " ", "*", "\x00"]
)
PATHS = st.lists(PIECES, max_size=8).map("".join) | st.text(max_size=20)


@given(PATHS)
def test_it_is_the_path_that_routing_sees(path):
    routed = routed_path(path)
    request = Request("GET", "http", routed, b"", Headers(), "", "1.1", {}, send_push_promise=None)
    assert request.path == routed == routed_path(routed)


@pytest.mark.parametrize(
    ("path", "routed"),
    [
        ("/api/rooms", "/api/rooms"),
        ("//api//rooms/", "/api//rooms/"),
        ("http://h/api", "/api"),
        ("http://h//api", "/api"),
        ("http://h", "/"),
        ("http:///api", "/api"),
        ("*", "/*"),
        ("", "/"),
        ("api", "/api"),
        ("/http://h/api", "/http://h/api"),
    ],
)
def test_examples(path, routed):
    assert routed_path(path) == routed
