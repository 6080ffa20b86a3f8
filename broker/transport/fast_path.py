"""The fast path: text messages of one frame go to the session in a plain call, all other frames to trio-websocket.

A message through trio-websocket costs two task switches and a walk through wsproto, which unmasks byte by byte:
some 100 µs, and tens of milliseconds for a large one. The fast path handles final text frames (RFC 6455 section 5.2)
that are valid beyond doubt; nearly all messages are. trio-websocket stays the authority: an unusual or invalid frame
reaches it byte for byte, and so does everything behind it.
"""

from collections.abc import Callable

_FINAL_TEXT = 0x81
_MASKED = 0x80


class FastPath:
    """Handles text frames at the beginning of a stream of bytes. Does no I/O; holds at most one incomplete frame."""

    def __init__(self, limit_bytes: int, handle: Callable[[str], bool]) -> None:
        """`handle` handles a message, and returns whether the next may follow at once; it must not raise."""
        self._limit_bytes = limit_bytes
        self._handle = handle
        self._held: bytearray | None = None
        self._wanted_bytes = 0

    def feed(self, data: bytes) -> bytes:
        """Handle the text frames at the beginning of `data`; returns the rest, which is trio-websocket's.

        Once something was returned, or `handle` returned False, nothing may be fed until all of that has been handled.
        """
        if self._held is not None:
            # Grows in place: to copy it for each piece would cost the square of its size.
            self._held += data
            if len(self._held) < self._wanted_bytes:
                return b""
            data = self.take_held()
        at, end = 0, len(data)
        while at < end:
            stop = self._end_of_frame(data, at, end)
            if stop > end:
                self._held = bytearray(data[at:])
                self._wanted_bytes = stop - at
                return b""
            text = _text_of(data, at, stop) if stop else None
            if text is None:
                return data[at:]
            at = stop
            if not self._handle(text):
                return data[at:]
        return b""

    def take_held(self) -> bytes:
        """Return the incomplete frame that is held, and hold it no more."""
        held, self._held = self._held, None
        return b"" if held is None else bytes(held)

    def _end_of_frame(self, data: bytes, at: int, end: int) -> int:
        """Return the end of the frame, or of the part that its length is read from; 0 for a frame of trio-websocket's."""
        if data[at] != _FINAL_TEXT:
            return 0
        if end - at < 2:
            return at + 2
        size = data[at + 1] - _MASKED
        if size < 126:
            return at + 6 + size if 0 <= size <= self._limit_bytes else 0
        length_ends, least = (at + 4, 126) if size == 126 else (at + 10, 1 << 16)
        if end < length_ends:
            return length_ends
        size = int.from_bytes(data[at + 2 : length_ends], "big")
        # A length field that is longer than needed is an error (5.2), which trio-websocket answers.
        return length_ends + 4 + size if least <= size <= self._limit_bytes else 0


def _text_of(data: bytes, at: int, stop: int) -> str | None:
    """Return the text of a complete frame, None if it is not UTF-8."""
    size = data[at + 1] & 0x7F
    body = at + (6 if size < 126 else 8 if size == 126 else 14)
    try:
        return unmask(data[body - 4 : body], data[body:stop]).decode()
    except UnicodeDecodeError:
        return None


def unmask(key: bytes, payload: bytes) -> bytes:
    """Apply a masking key (5.3) to a payload, as one number: many times quicker than byte by byte."""
    size = len(payload)
    keys = (key * (size // 4 + 1))[:size]
    number = int.from_bytes(payload, "little") ^ int.from_bytes(keys, "little")
    return number.to_bytes(size, "little")
