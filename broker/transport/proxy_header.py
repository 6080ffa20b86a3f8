"""The header of the PROXY protocol, version 2: before all other bytes, a proxy names the client of a connection.

See the specification "The PROXY protocol", version 2, section 2.2. Version 1, a line of text, is refused.
"""

import struct
from ipaddress import ip_address

import trio

from broker.transport.byte_stream import Endpoint
from broker.transport.listening import peer_address

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
HEAD_BYTES = 16
"""Signature, version and command, family, length of the rest."""
MOST_BYTES = 4096
"""Most bytes behind the head: the addresses, and what a proxy adds about TLS and about itself."""

_VERSION = 2
_LOCAL, _PROXY = 0, 1
_TCP4, _TCP6 = 0x11, 0x21
_IPV4 = struct.Struct("!4s4sHH")
_IPV6 = struct.Struct("!16s16sHH")


class ProxyHeaderError(Exception):
    """The peer sent no header of version 2."""


async def read_proxy_header(stream: trio.abc.ReceiveStream) -> Endpoint | None:
    """Read the header, and no byte behind it.

    Returns address and port of the client; None if the connection is the proxy's own, as its health checks are, or has
    no client with an IP address, or if the peer ended it without a byte.

    :raises ProxyHeaderError: if it is none, as soon as that shows.
    :raises trio.BrokenResourceError: if the connection breaks.
    """
    head = await _read(stream, HEAD_BYTES, SIGNATURE)
    if not head:
        return None
    rest = await _read(stream, _length_of_rest(head))
    return parse_proxy_header(head, rest)


def parse_proxy_header(head: bytes, rest: bytes) -> Endpoint | None:
    """Return the client that a header names, as `read_proxy_header` does.

    :raises ProxyHeaderError: if it is none.
    """
    if len(rest) != _length_of_rest(head):
        raise ProxyHeaderError("cut off")
    version, command = divmod(head[12], 16)
    if version != _VERSION or command not in {_LOCAL, _PROXY}:
        raise ProxyHeaderError("another version or command")
    if command == _LOCAL:
        return None
    family = head[13]
    if family not in {_TCP4, _TCP6}:
        return None
    layout = _IPV4 if family == _TCP4 else _IPV6
    if len(rest) < layout.size:
        raise ProxyHeaderError("too short for its addresses")
    source, _, port, _ = layout.unpack_from(rest)
    # Of 4 bytes or of 16.
    return peer_address((str(ip_address(source)), port)), port


def _length_of_rest(head: bytes) -> int:
    if len(head) < HEAD_BYTES or not head.startswith(SIGNATURE):
        raise ProxyHeaderError("not a header of the PROXY protocol, version 2")
    length = int.from_bytes(head[14:16], "big")
    if length > MOST_BYTES:
        raise ProxyHeaderError(f"longer than {MOST_BYTES} bytes")
    return length


async def _read(stream: trio.abc.ReceiveStream, count: int, start: bytes = b"") -> bytes:
    """Read so many bytes, or fewer if the peer ends, or as soon as they do not begin with `start`."""
    data = bytearray()
    while len(data) < count:
        part = await stream.receive_some(count - len(data))
        if not part:
            break
        data += part
        if bytes(data[: len(start)]) != start[: len(data)]:
            break
    return bytes(data)
