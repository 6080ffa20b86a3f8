"""The opening handshake: checked here, replayed to trio-websocket in a canonical form, and then freed.

wsproto 1.3 decodes the Host as IDNA 2003, in quadratic time, and so refuses the domain names of IDNA 2008; over other
headers it raises errors that are no refusal. So it is given only the headers that it needs.
"""

import binascii
import re
from collections.abc import Generator

from trio_websocket import WebSocketConnection, WebSocketRequest
from wsproto.events import Event
from wsproto.handshake import H11Handshake

from broker.transport.head import BAD_REQUEST, Head, refusal

_KEY_BYTES = 16
_VERSION = b"13"
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_BLANKS = rb"[ \t]*+"
_PARAMETER = rb'%b(?:%b=%b(?:%b|"(?:[^"\\]|\\.)*+"))?+' % (_TOKEN, _BLANKS, _BLANKS, _TOKEN)
_EXTENSION = rb"%b(?:%b;%b%b)*+" % (_TOKEN, _BLANKS, _BLANKS, _PARAMETER)
_LISTS = {
    name: re.compile(rb"(?:%b(?:%b%b)?+(?:,|\Z))*+" % (_BLANKS, member, _BLANKS))
    for name, member in (
        (b"connection", _TOKEN),
        (b"sec-websocket-protocol", _TOKEN),
        (b"sec-websocket-extensions", _EXTENSION),
    )
}
"""The grammar of each (RFC 6455 section 4.3), in linear time. Empty members, and lists without any, are accepted."""
_UPGRADE_REQUIRED = refusal(
    b"426 Upgrade Required", b"Upgrade: websocket", b"Sec-WebSocket-Version: " + _VERSION
)


class HandshakeError(Exception):
    """The request for a WebSocket is invalid; `response` is the answer."""

    def __init__(self, response: bytes) -> None:
        super().__init__()
        self.response = response


def offered_subprotocols(head: Head) -> list[str]:
    """Return the subprotocols that the client offers; one may hold its token."""
    return [offer.decode("latin-1") for offer in head.members(b"sec-websocket-protocol")]


def opening_handshake(head: Head, subprotocol: str | None) -> bytes:
    """Return the canonical request for trio-websocket, instead of the client's own.

    `subprotocol` is the one selected, the only one that trio-websocket sees.

    :raises HandshakeError: if a server must not accept the client's (RFC 6455 section 4.2.1).
    """
    key = _check_handshake(head)
    lines = [
        b"GET / HTTP/1.1",
        b"Host: greenroom",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: " + _VERSION,
        b"Sec-WebSocket-Key: " + key,
    ]
    if subprotocol is not None:
        lines.append(b"Sec-WebSocket-Protocol: " + subprotocol.encode())
    return b"\r\n".join([*lines, b"", b""])


def _check_handshake(head: Head) -> bytes:
    """Return the key."""
    version, keys = head.values(b"sec-websocket-version"), head.values(b"sec-websocket-key")
    if len(version) == 1 and version[0] != _VERSION:
        raise HandshakeError(_UPGRADE_REQUIRED)
    is_upgrade = head.method == b"GET" and b"upgrade" in map(bytes.lower, head.members(b"connection"))
    is_readable = all(_LISTS[name].fullmatch(value) for name, value in head.headers if name in _LISTS)
    # Content would have to be read to its end first (RFC 9110 section 7.8), or pass for frames.
    if not (is_upgrade and is_readable and len(version) == len(keys) == 1) or head.has_content:
        raise HandshakeError(BAD_REQUEST)
    if not _is_key(keys[0]):
        raise HandshakeError(BAD_REQUEST)
    return keys[0]


def _is_key(value: bytes) -> bool:
    """Whether it is the base64 of 16 bytes (RFC 6455 section 4.1)."""
    try:
        return len(binascii.a2b_base64(value, strict_mode=True)) == _KEY_BYTES
    except binascii.Error:
        return False


class _SpentHandshake(H11Handshake):
    """Replaces the handshake that wsproto keeps; has no more events."""

    __slots__ = ()

    def __init__(self) -> None:
        """Hold nothing."""

    def events(self) -> Generator[Event, None, None]:
        """Give no events."""
        yield from ()


def forget_handshake(connection: WebSocketConnection, request: WebSocketRequest) -> None:
    """Free the request that an open connection keeps: some 4 KiB.

    wsproto 1.3 keeps the HTTP/1.1 state to the end of the connection's life, and trio-websocket 0.12's reader the
    request until something else comes.
    """
    request.headers.clear()
    connection._wsproto.handshake = _SpentHandshake()  # noqa: SLF001
