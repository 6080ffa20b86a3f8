"""The head of a connection's first request: enough of it to know where the connection belongs."""

import attrs
import trio

READ_BYTES = 16_384

WSPROTO_ENCODINGS = {
    b"host": "idna",
    b"connection": "ascii",
    b"sec-websocket-protocol": "ascii",
    b"sec-websocket-extensions": "ascii",
}


class HeadError(Exception):
    """The peer sent no usable request head; `response` is what to answer, empty for nothing."""

    def __init__(self, reason: str, response: bytes) -> None:
        super().__init__(reason)
        self.response = response


@attrs.frozen
class Head:
    """A request head as it came, with whatever came behind it."""

    raw: bytes = attrs.field(repr=False)
    target: str = attrs.field(repr=False)  # may hold a token
    headers: tuple[tuple[bytes, bytes], ...] = attrs.field(repr=False)

    @property
    def path(self) -> str:
        """The target without its query, still percent-encoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The query of the target, undecoded."""
        return self.target.partition("?")[2]

    @property
    def is_websocket(self) -> bool:
        """Whether it asks for a WebSocket (RFC 6455 section 4.1)."""
        return any(value.lower() == b"websocket" for name, value in self.headers if name == b"upgrade")

    def header(self, name: bytes) -> str | None:
        """Return the first header of that lower-case name."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), None)


def _refusal(status: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status


BAD_REQUEST = _refusal(b"400 Bad Request")
TIMED_OUT = _refusal(b"408 Request Timeout")
TOO_MANY = _refusal(b"429 Too Many Requests")
TOO_LARGE = _refusal(b"431 Request Header Fields Too Large")
OVERLOADED = _refusal(b"503 Service Unavailable")


def parse_head(raw: bytes) -> Head:
    """Split a complete head. It is not validated: whoever is given the connection does that.

    :raises HeadError: if it is no HTTP request at all, or wsproto could not read it.
    """
    # h11 takes a bare LF for the end of a line, as it may (RFC 9112 section 2.2): both must see the same headers.
    lines = [line.rstrip(b"\r") for line in raw.partition(b"\r\n\r\n")[0].split(b"\n")]
    words = lines[0].split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/"):
        raise HeadError("not an HTTP request", BAD_REQUEST)
    if any(not line or line[0] in b" \t" for line in lines[1:]):
        # An end before the end, or a line that continues the one before (RFC 9112 section 5.2).
        raise HeadError("unreadable header", BAD_REQUEST)
    fields = [line.partition(b":")[::2] for line in lines[1:]]
    headers = tuple((name.strip().lower(), value.strip()) for name, value in fields)
    try:
        for name, value in headers:
            # wsproto 1.3 decodes these without looking, and raises where it should refuse.
            value.decode(WSPROTO_ENCODINGS.get(name, "latin-1"))
    except UnicodeError:
        raise HeadError("unreadable header", BAD_REQUEST) from None
    return Head(raw, words[1].decode("latin-1"), headers)


async def read_head(stream: trio.abc.ReceiveStream, *, max_bytes: int, timeout_seconds: float) -> Head | None:
    """Read until the head is complete; None if the peer closed without sending anything.

    :raises HeadError: if it is too long, takes too long, ends early, or is no HTTP.
    :raises trio.BrokenResourceError: if the connection breaks.
    """
    raw = bytearray()
    with trio.move_on_after(timeout_seconds):
        while True:
            data = await stream.receive_some(READ_BYTES)
            if not data:
                if raw:
                    raise HeadError("request head ended early", b"")
                return None
            searched = max(0, len(raw) - 3)
            raw += data
            end = raw.find(b"\r\n\r\n", searched)
            if end + 4 > max_bytes or (end < 0 and len(raw) > max_bytes):
                raise HeadError("request head too long", TOO_LARGE)
            if end >= 0:
                return parse_head(bytes(raw))
    if not raw:
        return None
    raise HeadError("request head took too long", TIMED_OUT)
