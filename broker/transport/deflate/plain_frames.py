"""Rewrites what a client sends, so that a reader without permessage-deflate understands it. Does no I/O.

The frames of compressed messages become plain ones with the same boundaries; all others pass as they are, and so do
invalid ones, which the reader is to find. That is how trio-websocket stays the judge of everything unusual.
"""

from broker.transport.deflate.inflation import InflateError, Inflater
from broker.transport.frame_boundaries import MAX_HEAD_BYTES, head_bytes, payload_bytes
from broker.transport.frames import CONTINUATION_OPCODE, unmask

_FIN = 0x80
_COMPRESSED = 0x40
"""The first reserved bit, on the first frame of a message only (RFC 7692 section 6.1)."""
_MASKED = 0x80
_TEXT_AND_BINARY = (1, 2)


class PlainFrames:
    """Rewrites one client's stream, in whatever pieces it comes; holds at most one head of a frame."""

    def __init__(self, limit_bytes: int) -> None:
        """`limit_bytes` is the size of the largest message, inflated."""
        self._limit_bytes = limit_bytes
        self._head = b""
        self._left_bytes = 0
        """Of the payload of the frame that has begun."""
        self._inflater: Inflater | None = None
        """Of the compressed message that has begun."""
        self._is_inflating = False
        """Whether the frame that has begun is of that message; else it passes as it is."""
        self._ends_message = False
        self._opcode = CONTINUATION_OPCODE
        """Of the next frame that is written for the message."""
        self._mask = b""
        self.failure: InflateError | None = None
        """The reason why nothing more can be rewritten; it is behind all that `feed` has returned."""

    def feed(self, data: bytes) -> bytes:
        """Return the next piece of the stream, rewritten; nothing if more has to come, or behind a failure."""
        if self.failure is not None:
            return b""
        rewritten: list[bytes] = []
        data, self._head = self._head + data, b""
        at = 0
        try:
            while at < len(data):
                if not self._left_bytes:
                    head = data[at : at + MAX_HEAD_BYTES]
                    size = head_bytes(head)
                    if size is None or len(head) < size:
                        self._head = head
                        break
                    at += size
                    rewritten.append(self._begin(head[:size]))
                piece = data[at : at + self._left_bytes]
                at += len(piece)
                self._left_bytes -= len(piece)
                rewritten.append(self._rewrite(piece) if self._is_inflating else piece)
        except InflateError as error:
            self.failure = error
        return b"".join(rewritten)

    def _begin(self, head: bytes) -> bytes:
        """Begin a frame; returns its head if it passes as it is."""
        self._left_bytes = payload_bytes(head)
        reserved, opcode = head[0] & 0x70, head[0] & 0x0F
        if self._inflater is None:
            is_compressed = reserved == _COMPRESSED and opcode in _TEXT_AND_BINARY
        else:
            is_compressed = reserved == 0 and opcode == CONTINUATION_OPCODE
        self._is_inflating = is_compressed and _is_well_formed(head)
        if not self._is_inflating:
            return head
        if self._inflater is None:
            self._inflater = Inflater(self._limit_bytes)
            self._opcode = opcode
        self._ends_message = bool(head[0] & _FIN)
        self._mask = head[-4:]
        return b""

    def _rewrite(self, piece: bytes) -> bytes:
        """Return the frame for the next piece of a compressed one, or nothing."""
        assert self._inflater is not None
        inflated = self._inflater.inflate(unmask(self._mask, piece))
        # The mask goes on behind the piece (RFC 6455 section 5.3).
        turn = len(piece) % 4
        self._mask = self._mask[turn:] + self._mask[:turn]
        if self._left_bytes:
            return self._frame(inflated, ends_message=False) if inflated else b""
        if self._ends_message:
            inflated += self._inflater.finish()
            self._inflater = None
        return self._frame(inflated, ends_message=self._ends_message)

    def _frame(self, payload: bytes, *, ends_message: bool) -> bytes:
        first = (_FIN if ends_message else 0) | self._opcode
        self._opcode = CONTINUATION_OPCODE
        return b"%c%b\0\0\0\0%b" % (first, _length(len(payload)), payload)


def _is_well_formed(head: bytes) -> bool:
    """Whether a frame is masked, and its length as short as it can be (RFC 6455 section 5.2)."""
    size = payload_bytes(head)
    return bool(head[1] & _MASKED) and size < 1 << 63 and head[1:-4] == _length(size)


def _length(size: int) -> bytes:
    """Return the mask bit and the length of a frame."""
    if size < 126:
        return b"%c" % (_MASKED | size)
    if size < 1 << 16:
        return b"\xfe" + size.to_bytes(2, "big")
    return b"\xff" + size.to_bytes(8, "big")
