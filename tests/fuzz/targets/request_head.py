"""The request head, as the port reads it, and as h11 does behind it.

Both readers decide about one request: the port by the head where it goes, h11 where its content ends. So a head that
both accept must be the same request to both, and one that the port refuses must get past h11 on no later request.
"""

from functools import partial
from typing import TypeAlias

import h11

from broker.http.hosting.h11_lines import CheckedConnection
from broker.transport.head import Head, HeadError, check_request, find_fault, read_head
from tests.fuzz.pieces import Pieces, in_pieces, run_now

MAX_BYTES = 300

SEEDS = (
    b"GET /ws/lobby?token=x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nbehind",
    b"POST /api/broadcast HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n{}",
    b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked\r\n\r\n0\r\n\r\n",
    b"\r\nGET http://a.example:80/x?y HTTP/1.0\nA:\t b \n\nGET",
    b"OPTIONS * HTTP/1.1\r\nHost:\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    b"GET / HTTP/2.0\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\nX: \xff\r\n\r\n",
)

Answer: TypeAlias = tuple[str, bytes] | tuple[str, tuple[tuple[bytes, bytes], ...], bytes] | None


def check(data: bytes) -> None:
    """Read a head whole and in pieces, and with h11."""
    head, answer, read = _read([data])
    for pieces in in_pieces(data):
        _, again, bytes_read = _read(pieces)
        assert again == answer, "in pieces it is another head"
        assert head is None or bytes_read == read == data, "bytes behind the head are lost"
    is_good = head is not None and _is_request(head)
    if is_good:
        size = len(data) - len(head.behind)
        for end in range(1, size):
            assert find_fault(data[:end], MAX_BYTES) is None, "half of a good head is refused"
    request = _read_by_h11(CheckedConnection(MAX_BYTES, partial(find_fault, max_bytes=MAX_BYTES)), data)
    if request is not None:
        assert is_good, "h11 accepts a later request that the port refuses as the first"
        _compare(head, request)
    plain = _read_by_h11(h11.Connection(h11.SERVER), data)
    if is_good and plain is not None:
        _compare(head, plain)


def _read(pieces: list[bytes]) -> tuple[Head | None, Answer, bytes]:
    """Return the head, a value of all that is known of it or of its refusal, and the bytes."""
    stream = Pieces(pieces)
    try:
        head = run_now(read_head(stream, max_bytes=MAX_BYTES, timeout_seconds=60))
    except HeadError as error:
        return None, (str(error), error.response), b""
    if head is None:
        return None, None, b""
    return head, (head.target, head.headers, head.method), head.raw + stream.rest()


def _is_request(head: Head) -> bool:
    try:
        check_request(head)
    except HeadError:
        return False
    return True


def _read_by_h11(connection: h11.Connection, data: bytes) -> h11.Request | None:
    connection.receive_data(data)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    return event if isinstance(event, h11.Request) else None


def _compare(head: Head | None, request: h11.Request) -> None:
    assert head is not None
    assert (head.method, head.target.encode()) == (request.method, request.target)
    assert b"%d.%d" % head.version == request.http_version
    # h11 writes both of these in one form.
    names = {b"content-length", b"transfer-encoding"}
    theirs = list(request.headers)
    assert [pair for pair in head.headers if pair[0] not in names] == [
        pair for pair in theirs if pair[0] not in names
    ]
    lengths = {int(each) for value in head.values(b"content-length") for each in value.split(b",")}
    assert lengths == {int(value) for name, value in theirs if name == b"content-length"}
    codings = [coding.lower() for coding in head.members(b"transfer-encoding")]
    assert codings == [value for name, value in theirs if name == b"transfer-encoding"]
