"""The fast path: ordinary frames are handled in a plain call, all others by trio-websocket.

A message through trio-websocket costs two task switches and a walk through wsproto, which unmasks byte by byte:
some 100 µs, and tens of milliseconds for a large one. The fast path handles text messages of one frame, and pings,
pongs and close frames (RFC 6455 section 5.2), where they are complete and valid beyond doubt; nearly all frames are.
trio-websocket stays the authority: an unusual or invalid frame reaches it byte for byte, and so does everything
behind it (see slow_path). A text is decoded once its frame is whole, which RFC 6455 section 8.1 leaves open: to decode
it in pieces would find invalid UTF-8 earlier, and cost all others.
"""

from collections.abc import Callable

from broker.transport.frames import CLOSE_OPCODE, PING_OPCODE, PONG_OPCODE, SHORT_BYTES, unmask, unmask_short

FRAMES_PER_TURN = 64
"""Frames that are handled before other tasks run: a frame may be 6 bytes, and thousands be in one read."""

INFLATING_FRAMES_PER_TURN = 8
"""The same where frames may be compressed: one of some 80 bytes may be as large as the limit then."""

_FINAL = 0x80
_FINAL_TEXT = _FINAL | 1
_COMPRESSED_TEXT = _FINAL_TEXT | 0x40
"""With the first reserved bit (RFC 7692 section 6.1)."""
_CONTROLS = frozenset(_FINAL | opcode for opcode in (CLOSE_OPCODE, PING_OPCODE, PONG_OPCODE))
_MASKED = 0x80

_SHORT_HEAD_BYTES = 6
"""Of a frame with a short payload: two bytes and the masking key."""


class FastPath:
    """Handles the ordinary frames at the beginning of a stream of bytes.

    Does no I/O; holds at most one incomplete frame.
    """

    __slots__ = (
        "_frames_per_turn",
        "_handle_control",
        "_handle_text",
        "_held",
        "_inflate",
        "_limit_bytes",
        "_most_alone_bytes",
        "_wanted_bytes",
        "is_turn_over",
    )

    def __init__(
        self,
        limit_bytes: int,
        handle_text: Callable[[str], bool],
        handle_control: Callable[[int, bytes], bool | None],
        inflate: Callable[[bytes], bytes | None] | None = None,
    ) -> None:
        """Both handlers return whether the next frame may follow at once, and must not raise.

        `handle_control` is given opcode and payload; it returns None if the frame is trio-websocket's. `inflate` is
        given the payload of a compressed text, where these are agreed on; it returns None if it cannot be inflated.
        """
        self._frames_per_turn = FRAMES_PER_TURN if inflate is None else INFLATING_FRAMES_PER_TURN
        self._inflate = inflate
        self._limit_bytes = limit_bytes
        self._most_alone_bytes = _SHORT_HEAD_BYTES + min(SHORT_BYTES, limit_bytes)
        self._handle_text = handle_text
        self._handle_control = handle_control
        self._held: bytearray | None = None
        self._wanted_bytes = 0
        self.is_turn_over = False
        """Whether `feed` has returned a rest of which nothing was looked at: it is to be fed in another turn."""

    def feed(self, data: bytes) -> bytes:
        """Handle the ordinary frames at the beginning of `data`; returns the rest.

        The rest is trio-websocket's, unless a handler has returned False, or `is_turn_over`. Nothing may be fed until
        it has been handled.
        """
        self.is_turn_over = False
        size = len(data)
        if (
            _SHORT_HEAD_BYTES < size <= self._most_alone_bytes
            and data[0] == _FINAL_TEXT
            and data[1] == _MASKED + size - _SHORT_HEAD_BYTES
            and self._held is None
        ):
            # One short text, as in most reads: what the steps below come to, in one.
            try:
                text = unmask_short(data[2:]).decode()
            except UnicodeDecodeError:
                return data
            self._handle_text(text)
            return b""
        return self._feed_frames(data)

    def _feed_frames(self, data: bytes) -> bytes:
        """Feed any number of frames, and parts of one."""
        if self._held is not None:
            # Grows in place: to copy it for each piece would cost the square of its size.
            self._held += data
            if len(self._held) < self._wanted_bytes:
                return b""
            data = self.take_held()
        at, end = 0, len(data)
        for _ in range(self._frames_per_turn):
            if at >= end:
                return b""
            stop = self._end_of_frame(data, at, end)
            if stop > end:
                self._held = bytearray(data[at:])
                self._wanted_bytes = stop - at
                return b""
            goes_on = self._handle(data, at, stop) if stop else None
            if goes_on is None:
                return data[at:]
            at = stop
            if not goes_on:
                return data[at:]
        self.is_turn_over = at < end
        return data[at:]

    def take_held(self) -> bytes:
        """Return the incomplete frame that is held, and hold it no more."""
        held, self._held = self._held, None
        return b"" if held is None else bytes(held)

    def _end_of_frame(self, data: bytes, at: int, end: int) -> int:
        """Return the end of the frame, or of the part that its length is read from; 0 for a frame of trio-websocket's."""
        first = data[at]
        if (
            first != _FINAL_TEXT
            and first not in _CONTROLS
            and (first != _COMPRESSED_TEXT or self._inflate is None)
        ):
            return 0
        if end - at < 2:
            return at + 2
        size = data[at + 1] - _MASKED
        if size < 126:
            return at + 6 + size if 0 <= size <= self._limit_bytes or (size >= 0 and first & 8) else 0
        if first & 8:
            return 0
        length_ends, least = (at + 4, 126) if size == 126 else (at + 10, 1 << 16)
        if end < length_ends:
            return length_ends
        size = int.from_bytes(data[at + 2 : length_ends], "big")
        # A length field that is longer than needed is an error (5.2), which trio-websocket answers.
        return length_ends + 4 + size if least <= size <= self._limit_bytes else 0

    def _handle(self, data: bytes, at: int, stop: int) -> bool | None:
        """Handle one complete frame; None if it is trio-websocket's."""
        size = data[at + 1] & 0x7F
        body = at + (6 if size < 126 else 8 if size == 126 else 14)
        payload = unmask(data[body - 4 : body], data[body:stop]) if size else b""
        if data[at] != _FINAL_TEXT:
            if data[at] != _COMPRESSED_TEXT:
                return self._handle_control(data[at] & 0x0F, payload)
            assert self._inflate is not None, "the frame has an end"
            inflated = self._inflate(payload)
            if inflated is None:
                return None
            payload = inflated
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            return None
        return self._handle_text(text)
