"""A plain post is a request that every reader takes for the same; nothing else is plain."""

import time

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.http.plain_post import MESSAGES, Options, PlainPost, parse_plain_post
from broker.model import Excluded
from broker.transport.head import find_fault, parse_head
from tests.http.ways import BODY, PATH, lines, post
from tests.support.secrets import API_KEY

PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b"\0",
        b"%",
        b"/",
        b"?",
        b"&",
        b"=",
        b"+",
        b"#",
        b"\xff",
        b"0",
        b"9",
        b"a",
        b"chunked",
    ]
)
FIELDS = st.sampled_from(
    [
        b"Host: b",
        b"Content-Length: 3",
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b"X-A: b",
        b"Accept: */*",
    ]
)
QUERY = "tags=%7B%22kind%22%3A+%22goal%C3%A9%22%7D&exclude_user=a+b%2B&ephemeral=1&exclude_connection=c-1"
WHOLE = st.sampled_from(
    [
        post("Idempotency-Key: 1", "Accept: */*"),
        post("Idempotency-Key: 1", "Accept: */*", start=f"POST {PATH}?{QUERY} HTTP/1.1"),
        lines(b"{}\n", headers=["Idempotency-Key: 1", "Accept: */*"]),
    ]
)


@st.composite
def changed_posts(draw):
    """Return a plain post with pieces put into it, and fields added."""
    data = draw(WHOLE).partition(b"\r\n\r\n")[0]
    lines = data.split(b"\r\n")
    for field in draw(st.lists(FIELDS, max_size=2)):
        lines.insert(draw(st.integers(1, len(lines))), field)
    data = b"\r\n".join([*lines, b"", b""])
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(PIECES) + data[at + draw(st.integers(0, 2)) :]
    return data


@given(changed_posts())
def test_every_reader_sees_the_same_in_a_plain_post(data):
    """The port's reader accepts it, h11 too, and both see the same fields and the same length of content."""
    found = parse_plain_post(data)
    if found is None:
        return
    head = data[: found.head_bytes]
    assert find_fault(head, 16_384) is None
    parsed = parse_head(head)
    assert parsed.header(b"idempotency-key") == found.key
    assert parsed.values(b"content-length") == [b"%d" % found.content_bytes]
    assert not parsed.values(b"transfer-encoding")
    assert not parsed.expects_continue
    assert not parsed.is_websocket
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.http_version) == (b"POST", b"1.1")
    assert list(request.headers) == list(parsed.headers)
    assert connection.trailing_data[0] == data[found.head_bytes :]


@pytest.mark.parametrize("end", range(len(post()) - len(BODY)))
def test_half_a_head_is_none(end):
    assert parse_plain_post(post()[:end]) is None


def test_a_plain_post_is_read_whole():
    data = post(
        "Idempotency-Key: \t a b ", "Origin: https://a.example", start=f"POST {PATH}?{QUERY} HTTP/1.1"
    )
    found = parse_plain_post(data + b"more")
    assert found == PlainPost(
        route=MESSAGES,
        room="lobby",
        options=Options(True, {"kind": "goal\u00e9"}, Excluded("c-1", "a b+")),
        authorization=f"Bearer {API_KEY}",
        origin="https://a.example",
        key="a b",
        head_bytes=len(data) - len(BODY),
        content_bytes=len(BODY),
    )


@pytest.mark.parametrize(
    "data",
    [
        b"POST /api/rooms/" + b"a" * 60_000,
        b"POST /api/rooms/" + b"%" * 60_000 + b"/messages HTTP/1.1\r\n",
        *(
            post(start=f"POST {PATH}?tags={piece * (60_000 // len(piece))} HTTP/1.1")
            for piece in ("%", "a", "&tags=", "%7B", "%5B", "%22a%22:%22b%22,", "+")
        ),
        post("X-A:" + " " * 60_000 + "\0"),
        post(*["X-A: b"] * 6_000),
        post("X-" + "A" * 60_000),
        b"\r\n" * 30_000,
    ],
    ids=len,
)
def test_no_head_takes_long(data):
    """Some 2 ms at most on a quick machine; where a head were tried from every byte, it would be minutes."""
    began = time.process_time()
    parse_plain_post(data)
    assert time.process_time() - began < 2
