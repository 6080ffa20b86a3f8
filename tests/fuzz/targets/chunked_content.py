"""Content in chunks, and the request behind it: our checks before h11 change nothing of what they let through."""

from functools import partial

import h11

from broker.http.hosting.h11_lines import CheckedConnection
from broker.transport.head import find_fault
from tests.fuzz.pieces import in_pieces

MAX_BYTES = 300
HEAD = b"POST /api/messages HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWER = h11.Response(status_code=200, headers=[("Content-Length", "0")])

SEEDS = (
    b"3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"A;x=y\r\n0123456789\r\n00\r\nTrailer: x\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"1 \r\na\r\n0;\r\nA: \t b\r\n\r\n",
    b"-1\r\n",
    b"1\nx\n0\n\n",
    b"ffffffffffffffffffff\r\n",
    b"1;" + b" " * 200 + b"\0\r\n",
    b"0\r\nA: b\r\n c\r\n\r\n",
    b"1;" + b"x" * MAX_BYTES + b"\r\n",
    b"0\r\nA: " + b"x" * MAX_BYTES + b"\r\n\r\n",
    b"1\r\na\r\n0\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
)


def check(data: bytes) -> None:
    """Read content whole and in pieces, and by h11 alone."""
    checked = partial(CheckedConnection, MAX_BYTES, partial(find_fault, max_bytes=MAX_BYTES))
    expected = _read(checked(), [data])
    for pieces in in_pieces(data):
        again = _read(checked(), pieces)
        assert again == expected, "in pieces it is other content"
    plain = _read(h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_BYTES), [data])
    # Of the request behind it, h11 refuses the empty line that may stand before.
    assert expected[:2] == plain[:2] or expected[1] == ("refused",)


def _read(connection: h11.Connection, pieces: list[bytes]) -> list[tuple[object, ...]]:
    """Return the requests, with the whole content of each, and at last how it ends."""
    found: list[tuple[object, ...]] = []
    content = bytearray()
    for piece in [HEAD, *filter(None, pieces)]:
        connection.receive_data(piece)
        while True:
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError:
                return [*found, ("refused",)]
            match event:
                case h11.Request():
                    found.append((event.method, event.target))
                case h11.Data():
                    content += event.data
                case h11.EndOfMessage():
                    found.append(("whole", bytes(content), sorted(event.headers)))
                    content.clear()
                    connection.send(ANSWER)
                    connection.send(h11.EndOfMessage())
                    if connection.our_state is not h11.DONE:
                        return [*found, ("closed",)]
                    connection.start_next_cycle()
                case h11.NEED_DATA:
                    break
                case _:
                    return [*found, (type(event).__name__,)]
    return [*found, ("content", bytes(content)), ("unfinished",)]
