"""The boundaries of frames in a WebSocket stream, found from their heads alone (RFC 6455 section 5.2)."""

from broker.transport.frames import CLOSE_OPCODE

MAX_HEAD_BYTES = 14
_FIN = 0x80
_CONTROL = 0x08
_OPCODE = 0x0F
_FIN_AND_OPCODE = 0x8F
_WHOLE_TEXT = 0x81


class FrameBoundaries:
    """Counts frames and messages in a stream of bytes, in whatever pieces they come; payloads are not read."""

    def __init__(self) -> None:
        self.messages = 0
        """Messages that are complete."""
        self.has_close = False
        """Whether a close frame has begun; behind it nothing counts (RFC 6455 section 5.5.1)."""
        self._is_in_message = False
        self._to_skip = 0
        self._head = b""
        self._ends_message = False  # whether a message is complete once `_to_skip` bytes have come

    @property
    def is_between_messages(self) -> bool:
        """Whether the bytes so far end with a whole frame, and no fragments wait for their last one."""
        return not self._is_in_message and not self._to_skip and not self._head

    def feed(self, data: bytes | bytearray) -> int:
        """Read on in the stream, of which `data` is the next piece.

        Returns how many frames begin in it that are not text messages of one frame: empty fragments and unasked pongs
        cost as much time as messages, which are counted elsewhere.
        """
        count = 0
        at = 0
        while True:
            at += self._to_skip
            if at > len(data):
                self._to_skip = at - len(data)
                return count
            self._to_skip = 0
            self.messages += self._ends_message
            self._ends_message = False
            head = self._head + data[at : at + MAX_HEAD_BYTES]
            size = head_bytes(head)
            if size is None or len(head) < size:
                self._head = bytes(head)
                return count
            at += size - len(self._head)
            self._head = b""
            self._to_skip = payload_bytes(head)
            self._note(head[0])
            count += head[0] & _FIN_AND_OPCODE != _WHOLE_TEXT

    def _note(self, first: int) -> None:
        """Take note of the first byte of a frame's head."""
        if not first & _CONTROL:
            self._is_in_message = not first & _FIN
            self._ends_message = bool(first & _FIN)
        elif first & _OPCODE == CLOSE_OPCODE:
            self.has_close = True


def head_bytes(head: bytes | bytearray) -> int | None:
    """Return the size of a frame's head, which begins with `head`; None if that is too little to tell."""
    if len(head) < 2:
        return None
    mask_bytes = 4 if head[1] & 0x80 else 0
    return 2 + {126: 2, 127: 8}.get(head[1] & 0x7F, 0) + mask_bytes


def payload_bytes(head: bytes | bytearray) -> int:
    """Return the size of the payload behind a head, of which `head` has all."""
    match head[1] & 0x7F:
        case 126:
            return int.from_bytes(head[2:4], "big")
        case 127:
            return int.from_bytes(head[2:10], "big")
        case size:
            return size
