"""Server-to-client WebSocket frames (RFC 6455 section 5): whole, unmasked, uncompressed.

A server's frames carry no mask and no per-connection state, so one encoding serves every member of a room.
"""

from collections.abc import Sequence

from broker.notices import Notice
from broker.protocol.codec import encode_notice

PING = b"\x89\x00"


def text_frame(payload: bytes) -> bytes:
    """Return a final text frame (5.2)."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 1 << 16:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


def close_frame(code: int, reason: str) -> bytes:
    """Return a close frame (5.5.1); the reason is cut to the 123 bytes that a control frame has left for it."""
    text = reason.encode()[:123].decode(errors="ignore").encode()
    return b"\x88%c%b%b" % (2 + len(text), code.to_bytes(2, "big"), text)


def is_close_frame(data: bytes) -> bool:
    """Whether `data`, which holds whole server frames, begins with a close frame (5.5.1)."""
    return data[:1] == b"\x88"


class WebSocketCodec:
    """The native protocol over WebSocket; one instance serves all connections, so that they share frames."""

    def encode(self, notices: Sequence[Notice]) -> bytes:
        """Return one text frame for each notice, joined."""
        return b"".join([text_frame(encode_notice(notice)) for notice in notices])


class FrameCounter:
    """Counts the frames in a stream of bytes (5.2) that are no whole text messages, which are counted elsewhere.

    Empty fragments and unasked pongs cost as much time as messages do. What is in the frames is not looked at.
    """

    def __init__(self) -> None:
        self._to_skip = 0
        self._head = b""

    def feed(self, data: bytes | bytearray) -> int:
        """Return how many heads of such frames end in `data`, which continues what was fed before."""
        count = 0
        at = 0
        while True:
            at += self._to_skip
            if at >= len(data):
                self._to_skip = at - len(data)
                return count
            self._to_skip = 0
            head = self._head + data[at : at + MAX_HEAD_BYTES]
            size = _head_bytes(head)
            if size is None or len(head) < size:
                self._head = bytes(head)
                return count
            at += size - len(self._head)
            self._head = b""
            self._to_skip = _payload_bytes(head)
            count += head[0] & _FIN_AND_OPCODE != _WHOLE_TEXT


MAX_HEAD_BYTES = 14
_FIN_AND_OPCODE = 0x8F
_WHOLE_TEXT = 0x81


def _head_bytes(head: bytes | bytearray) -> int | None:
    if len(head) < 2:
        return None
    mask_bytes = 4 if head[1] & 0x80 else 0
    return 2 + {126: 2, 127: 8}.get(head[1] & 0x7F, 0) + mask_bytes


def _payload_bytes(head: bytes | bytearray) -> int:
    match head[1] & 0x7F:
        case 126:
            return int.from_bytes(head[2:4], "big")
        case 127:
            return int.from_bytes(head[2:10], "big")
        case size:
            return size
