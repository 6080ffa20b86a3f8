"""A request head: parsed as far as the port routes by it, and checked so that every reader sees the same in it."""

import re
from collections.abc import Sequence

import attrs
import trio

READ_BYTES = 16_384

BEGINNING_BYTES = 128
"""Enough of a request line to tell that it is one. A bound, because it is checked each time that bytes come."""

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/([0-9])\.([0-9])")
_BEGINNING = re.compile(rb"\r|(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++(?: (?:[!-~]++(?: [HTP/0-9.]*+\r?)?)?)?)?")
"""An incomplete request line, or half of the empty line that may come before one."""
_HEADERS = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[^\x00\r\n\x0b\x0c]*+(?:\r?\n(?!\Z)|\Z))*+")
"""Lines of a name, a colon and a value (RFC 9112 section 5).

An empty line here is an end before the end; one that begins with a blank continues the one before, which a server may
refuse (section 5.2); a blank before the colon must be refused (section 5.1). In a value neither NUL, a bare CR, nor the
blanks that are neither SP nor HTAB may stand (RFC 9110 section 5.5).
"""
_HOST = re.compile(
    rb"(?:\[(?:[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._~%-]+)?|[vV][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+)\]"
    rb"|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
)
"""`uri-host [ ":" port ]` (RFC 3986 section 3.2.2), and zones of IPv6. Nothing here decides by the host."""
_END = re.compile(rb"\n\r?\n")
"""An empty line; it and the line before may end in a bare LF, as any line may (RFC 9112 section 2.2)."""
_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?]*)")


class HeadError(Exception):
    """The peer sent no usable request head; `response` is the answer, empty for none."""

    def __init__(self, reason: str, response: bytes) -> None:
        super().__init__(reason)
        self.response = response

    @property
    def status(self) -> int:
        """The status of the answer, 400 where there is none."""
        return int(self.response[9:12] or b"400")


@attrs.frozen
class Head:
    """A request head as it was received, with the bytes behind it."""

    raw: bytes = attrs.field(repr=False)
    target: str = attrs.field(repr=False)  # may hold a token
    headers: tuple[tuple[bytes, bytes], ...] = attrs.field(repr=False)
    method: bytes = b"GET"
    version: tuple[int, int] = (1, 1)
    _values: dict[bytes, list[bytes]] = attrs.field(init=False, repr=False, eq=False)

    @_values.default
    def _by_name(self) -> dict[bytes, list[bytes]]:
        values: dict[bytes, list[bytes]] = {}
        for name, value in self.headers:
            values.setdefault(name, []).append(value)
        return values

    @property
    def path(self) -> str:
        """The target without its query, still percent-encoded, and without the authority of an absolute form."""
        path = self.target.partition("?")[0]
        authority = _AUTHORITY.match(path)
        return path[authority.end() :] or "/" if authority else path

    @property
    def query(self) -> str:
        """The query of the target, undecoded."""
        return self.target.partition("?")[2]

    @property
    def behind(self) -> bytes:
        """The bytes behind the head."""
        return _split(self.raw)[1]

    @property
    def is_websocket(self) -> bool:
        """Whether it asks for a WebSocket (RFC 6455 section 4.1); one of HTTP/1.0 cannot (RFC 9110 section 7.8)."""
        return self.version > (1, 0) and b"websocket" in map(bytes.lower, self.members(b"upgrade"))

    @property
    def has_content(self) -> bool:
        """Whether content follows (RFC 9112 section 6.3)."""
        return bool(self.values(b"transfer-encoding")) or any(
            value != b"0" for value in self.values(b"content-length")
        )

    @property
    def expects_continue(self) -> bool:
        """Whether 100 is to be sent before anything else (RFC 9110 section 10.1.1)."""
        return self.version > (1, 0) and b"100-continue" in map(bytes.lower, self.members(b"expect"))

    def header(self, name: bytes) -> str | None:
        """Return the first header of that lower-case name."""
        values = self.values(name)
        return values[0].decode("latin-1") if values else None

    def values(self, name: bytes) -> Sequence[bytes]:
        """Return every header of that lower-case name."""
        return self._values.get(name, ())

    def members(self, name: bytes) -> list[bytes]:
        """Return the members of a header that is a list, in as many lines as it came (RFC 9110 section 5.6.1)."""
        values = self.values(name)
        if not values:
            return []
        members = [member.strip(b" \t") for member in b",".join(values).split(b",")]
        return [member for member in members if member]


def refusal(status: bytes, *headers: bytes) -> bytes:
    """Return a response without content, behind which the connection is closed."""
    return b"\r\n".join(
        [b"HTTP/1.1 " + status, *headers, b"Connection: close", b"Content-Length: 0", b"", b""]
    )


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
BAD_REQUEST = refusal(b"400 Bad Request")
TIMED_OUT = refusal(b"408 Request Timeout")
TOO_MANY = refusal(b"429 Too Many Requests")
TARGET_TOO_LONG = refusal(b"414 URI Too Long")
TOO_LARGE = refusal(b"431 Request Header Fields Too Large")
NOT_IMPLEMENTED = refusal(b"501 Not Implemented")
OVERLOADED = refusal(b"503 Service Unavailable", b"Retry-After: 1")
OTHER_VERSION = refusal(b"505 HTTP Version Not Supported")


def _split(raw: bytes) -> tuple[bytes, bytes]:
    """Return a head without the line ends around it, and the bytes behind it."""
    # A server should ignore an empty line before the request (RFC 9112 section 2.2).
    request = raw.removeprefix(b"\r\n")
    end = _END.search(request)
    if end is None:
        return request, b""
    return request[: end.start()].removesuffix(b"\r"), request[end.end() :]


def parse_head(raw: bytes) -> Head:
    """Split a complete head, in time linear in its size.

    :raises HeadError: if it is no HTTP/1.x request, or if two readers could see different things in it.
    """
    text, _ = _split(raw)
    # h11 takes a bare LF for the end of a line, as it may (ibid.): both must see the same headers.
    first, _, rest = text.partition(b"\n")
    request_line = _REQUEST_LINE.fullmatch(first.removesuffix(b"\r"))
    if request_line is None:
        raise HeadError("not an HTTP request", BAD_REQUEST)
    method, target, major, minor = request_line.groups()
    if major != b"1":
        raise HeadError("another version of HTTP", OTHER_VERSION)
    if _HEADERS.fullmatch(rest) is None:
        raise HeadError("unreadable header", BAD_REQUEST)
    fields = [line.partition(b":") for line in rest.split(b"\n")] if rest else []
    headers = tuple((name.lower(), value.strip(b" \t\r")) for name, _, value in fields)
    return Head(raw, target.decode("ascii"), headers, method, (int(major), int(minor)))


def check_request(head: Head) -> None:
    """Check the rules that HTTP has for every request, whichever its target.

    :raises HeadError: if a server must refuse it, or if its content could pass for the next request.
    """
    hosts = head.values(b"host")
    # RFC 9112 section 3.2; HTTP/1.0 needs none.
    is_counted = len(hosts) == 1 or (not hosts and head.version < (1, 1))
    if not is_counted or (hosts and _HOST.fullmatch(hosts[0]) is None):
        raise HeadError("missing, doubled or unreadable Host", BAD_REQUEST)
    if head.method == b"CONNECT":
        # An origin server need not know it (RFC 9110 sections 9.1 and 9.3.6), and its target is no resource here.
        raise HeadError("CONNECT", NOT_IMPLEMENTED)
    if not _is_target(head):
        raise HeadError("a target of none of the forms", BAD_REQUEST)
    if head.method != head.method.upper():
        # Methods are case-sensitive (RFC 9110 section 9.1); hypercorn takes `get` for GET.
        raise HeadError("a method in small letters", NOT_IMPLEMENTED)
    if head.values(b"transfer-encoding"):
        _check_transfer_encoding(head)


def _is_target(head: Head) -> bool:
    """Whether the target has a form for its method (RFC 9112 section 3.2); none of them has a fragment."""
    target = head.target
    if "#" in target:
        return False
    absolute = _AUTHORITY.match(target)
    if absolute is not None:
        # An empty host is invalid (RFC 9110 section 4.2.1), user information is to be an error (section 4.2.4).
        authority = absolute[1].encode()
        return authority != b"" and not authority.startswith(b":") and _HOST.fullmatch(authority) is not None
    return target.startswith("/") or (target == "*" and head.method == b"OPTIONS")


def _check_transfer_encoding(head: Head) -> None:
    """Refuse a head that leaves the end of the content in doubt (RFC 9112 sections 6.1 and 6.3)."""
    codings = [coding.lower() for coding in head.members(b"transfer-encoding")]
    is_clear = codings[-1:] == [b"chunked"] and codings.count(b"chunked") == 1
    if not is_clear or head.values(b"content-length") or head.version < (1, 1):
        raise HeadError("doubtful length of content", BAD_REQUEST)
    if len(codings) > 1:
        raise HeadError("an unknown transfer coding", NOT_IMPLEMENTED)


def is_complete(head: bytes) -> bool:
    """Whether the empty line at the end of a head has come."""
    return _END.search(head) is not None


def check_size(head: bytes | bytearray, max_bytes: int) -> None:
    """Check the size of a head, which may be incomplete.

    :raises HeadError: if it is too long, because of its target (RFC 9112 section 3) or of its headers.
    """
    if len(head) > max_bytes:
        first_line = head[:max_bytes]
        is_target = b" " in first_line and b"\n" not in first_line
        raise HeadError("request head too long", TARGET_TOO_LONG if is_target else TOO_LARGE)


def check_beginning(head: bytes | bytearray) -> None:
    """Check how a head begins, which may be incomplete: a TLS hello, say, is refused without waiting for more.

    :raises HeadError: if no request line begins so (RFC 9112 section 3).
    """
    line, is_complete, _ = bytes(head[:BEGINNING_BYTES]).removeprefix(b"\r\n").partition(b"\n")
    expected = _REQUEST_LINE if is_complete else _BEGINNING
    if expected.fullmatch(line.removesuffix(b"\r") if is_complete else line) is None:
        raise HeadError("not an HTTP request", BAD_REQUEST)


def find_fault(raw: bytes, max_bytes: int) -> int | None:
    """Return the status that refuses a request, given its head or how it begins; None if it is good so far."""
    try:
        if is_complete(raw):
            check_size(raw, max_bytes)
            check_request(parse_head(raw))
        else:
            check_beginning(raw)
    except HeadError as error:
        return error.status
    return None


async def read_head(stream: trio.abc.ReceiveStream, *, max_bytes: int, timeout_seconds: float) -> Head | None:
    """Read until the head is complete; None if the peer closed without sending anything.

    :raises HeadError: if it is too long, takes too long, ends early, or is no HTTP; that as soon as it shows.
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
            end = _END.search(raw, searched)
            check_beginning(raw)
            check_size(raw if end is None else raw[: end.end()], max_bytes)
            if end is not None:
                return parse_head(bytes(raw))
    if not raw:
        return None
    raise HeadError("request head took too long", TIMED_OUT)
