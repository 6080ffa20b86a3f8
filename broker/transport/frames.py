"""WebSocket frames (RFC 6455 section 5). Those from server to client are whole and unmasked.

A server's frames carry no mask and no per-connection state, so one encoding serves every member of a room.
"""

import struct
from collections.abc import Sequence

from broker.notices import Notice
from broker.protocol.codec import encode_notice

CONTINUATION_OPCODE = 0
"""Of all fragments of a message but the first (5.4)."""

CLOSE_OPCODE, PING_OPCODE, PONG_OPCODE = 8, 9, 10
"""Of control frames (5.5)."""

PING = b"\x89\x00"


_SHORT_HEADS = tuple(b"\x81%c" % size for size in range(126))
_MEDIUM_HEAD = struct.Struct("!2sH")


def text_frame(payload: bytes) -> bytes:
    """Return a final text frame (5.2)."""
    size = len(payload)
    if size < 126:
        return _SHORT_HEADS[size] + payload
    if size < 1 << 16:
        return _MEDIUM_HEAD.pack(b"\x81\x7e", size) + payload
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


def control_frame(opcode: int, payload: bytes) -> bytes:
    """Return a control frame (5.5); the payload has 125 bytes at most."""
    return b"%c%c%b" % (0x80 | opcode, len(payload), payload)


def close_frame(code: int, reason: str) -> bytes:
    """Return a close frame (5.5.1); the reason is cut to the 123 bytes that a control frame has left for it."""
    text = reason.encode()[:123].decode(errors="ignore").encode()
    return control_frame(CLOSE_OPCODE, code.to_bytes(2, "big") + text)


def is_close_frame(data: bytes) -> bool:
    """Whether `data`, which holds whole server frames, begins with a close frame (5.5.1)."""
    return data[:1] == b"\x88"


def unmask(key: bytes, payload: bytes) -> bytes:
    """Apply a masking key (5.3) to a payload, as one number: many times quicker than byte by byte."""
    size = len(payload)
    keys = (key * (size // 4 + 1))[:size]
    number = int.from_bytes(payload, "little") ^ int.from_bytes(keys, "little")
    return number.to_bytes(size, "little")


SHORT_BYTES = 125
"""The largest payload whose length is in the second byte of its frame (5.2)."""

_REPEATED = tuple(
    sum(1 << 32 * word for word in range(1, words + 1)) for words in range(SHORT_BYTES // 4 + 2)
)
"""By these a key is multiplied, to stand behind itself so many times."""


def unmask_short(masked: bytes) -> bytes:
    """Return a payload of 1 to 125 bytes, from a masking key (5.3) and the masked payload behind it."""
    # As `unmask`, with a third less to do: key and payload are read as one number.
    size = len(masked)
    number = int.from_bytes(masked, "little")
    number ^= (number & 0xFFFF_FFFF) * _REPEATED[(size - 1) // 4]
    return number.to_bytes(size + 3, "little")[4:size]


class WebSocketCodec:
    """Encodes for the native protocol over WebSocket; one instance serves all connections, which so share frames."""

    def encode(self, notices: Sequence[Notice]) -> bytes:
        """Return one text frame for each notice, joined."""
        if len(notices) == 1:
            return text_frame(encode_notice(notices[0]))
        return b"".join([text_frame(encode_notice(notice)) for notice in notices])
