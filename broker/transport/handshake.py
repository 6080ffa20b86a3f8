"""The opening handshake: checked and answered here, with the bytes that trio-websocket would answer.

trio-websocket itself sees only a canonical request (see slow_path). wsproto 1.3, under it, decodes the Host as IDNA
2003, in quadratic time, and so refuses the domain names of IDNA 2008; over other headers it raises errors that are no
refusal.
"""

import binascii
import hashlib
import re

from broker.transport.head import BAD_REQUEST, Head, refusal

_KEY_BYTES = 16
_VERSION = b"13"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
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


def answer_handshake(head: Head, subprotocol: str | None, extension: bytes | None = None) -> bytes:
    """Return the response that opens the WebSocket (RFC 6455 section 4.2.2), with the extension that was agreed on.

    :raises HandshakeError: if a server must not accept the request (section 4.2.1).
    """
    key = _check_handshake(head)
    # RFC 6455 asks for this hash, and not for its strength.
    accept = binascii.b2a_base64(hashlib.sha1(key + _GUID, usedforsecurity=False).digest(), newline=False)
    selected = b"" if subprotocol is None else b"Sec-WebSocket-Protocol: %b\r\n" % subprotocol.encode()
    agreed = b"" if extension is None else b"Sec-WebSocket-Extensions: %b\r\n" % extension
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b%b\r\n" % (accept, selected, agreed)
    )


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
