"""The fast path of HTTP posts: a post that it recognizes is to h11, hypercorn and the routes the same request."""

from urllib.parse import parse_qsl, unquote

import h11
import msgspec

from broker.errors import Refused
from broker.http.api.models import PublishQuery
from broker.http.api.publishing import make_draft_by
from broker.http.plain_post import BROADCAST, LINES, PlainPost, parse_plain_post
from broker.model import EventHeader
from broker.protocol.content import choosing_header
from broker.transport.head import find_fault, parse_head

_MOST_BYTES = 16_384
_MESSAGE = b'{"type":"goal"}'

SEEDS = (
    (
        b"POST /api/rooms/lobby/messages HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer k\r\nContent-Length: 14\r\n"
        b'Content-Type: application/json\r\nX-A: b\r\n\r\n{"type":"goal"}'
    ),
    (
        b"POST /api/rooms/a%20b%C3%A9/messages?ephemeral=1&exclude_user=ann+b&tags=%7B%22kind%22%3A%22goal%22%7D"
        b" HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length:0 \r\nConnection: keep-alive\r\n\r\n"
    ),
    (
        b"POST /api/rooms/x/messages?exclude_connection=c-1&exclude_user=%41 HTTP/1.1\r\nhost: a.b:1\r\n"
        b"content-length: 3\r\nIdempotency-Key: \t a b \r\nOrigin: https://a.example\r\n\r\nabc"
    ),
    (
        b"POST /api/broadcast?tags={} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
        b"content-type: application/json; charset=utf-8\r\n\r\n{}"
    ),
    b"POST /api/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Type: application/x-ndjson\r\n\r\n{}\n",
    b"POST /api/rooms/a/messages?tags=%5B HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
)


def check(data: bytes) -> None:
    """Recognize a post, and compare what is known of it with what the others read."""
    found = parse_plain_post(data)
    if found is None:
        return
    head = data[: found.head_bytes]
    assert parse_plain_post(head) == found, "content changes the head"
    for end in range(found.head_bytes):
        assert parse_plain_post(data[:end]) is None, "half a head is recognized"
    assert find_fault(head, _MOST_BYTES) is None
    _compare_with_h11(found, data)
    _compare_with_routes(found, parse_head(head).target)


def _compare_with_h11(found: PlainPost, data: bytes) -> None:
    parsed = parse_head(data[: found.head_bytes])
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.http_version) == (b"POST", b"1.1")
    assert list(request.headers) == list(parsed.headers)
    assert request.target.decode() == parsed.target
    assert connection.trailing_data[0] == data[found.head_bytes :]
    assert parsed.values(b"content-length") == [b"%d" % found.content_bytes]
    assert not parsed.values(b"transfer-encoding")
    assert not parsed.expects_continue
    assert not parsed.is_websocket
    for name, value in (
        (b"authorization", found.authorization),
        (b"origin", found.origin),
        (b"idempotency-key", found.key),
    ):
        assert parsed.header(name) == value


def _compare_with_routes(found: PlainPost, target: str) -> None:
    path, _, query = target.partition("?")
    # As hypercorn decodes a path, and Werkzeug a query.
    expected = {BROADCAST: BROADCAST, LINES: LINES}.get(found.route, f"/api/rooms/{found.room}/messages")
    assert unquote(path) == expected
    assert "/" not in (found.room or "")
    values: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, errors="replace"):
        values.setdefault(name, value)
    asked = msgspec.convert(values, PublishQuery, strict=False)
    try:
        draft = make_draft_by(asked, _MESSAGE, None)
    except Refused as refused:
        raise AssertionError("the routes refuse these options") from refused
    assert draft.ephemeral is found.options.is_ephemeral
    header = choosing_header(EventHeader("goal"), found.options.tags, found.options.excluded)
    assert draft.header == header
