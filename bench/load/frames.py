"""WebSocket frames as a client of this machine writes and reads them (RFC 6455 section 5). Pure."""

from collections.abc import Iterator

CONTINUATION, TEXT, CLOSE, PING, PONG = 0x0, 0x1, 0x8, 0x9, 0xA
DEFLATED_TEXT = 0x40 | TEXT
"""A compressed text (RFC 7692 section 6.1)."""
_FINAL, _MASKED = 0x80, 0x80
_SHORT, _LONG = 126, 127


def client_frame(payload: bytes, mask: bytes, opcode: int = TEXT) -> bytes:
    """Return a whole message as one frame, masked with 4 bytes (section 5.3)."""
    return _masked(_FINAL | opcode, payload, mask)


def _masked(first: int, payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    length_bytes = 0 if size < _SHORT else 2 if size < 1 << 16 else 8
    length = size if length_bytes == 0 else _SHORT if length_bytes == 2 else _LONG
    head = bytes((first, _MASKED | length)) + (size.to_bytes(length_bytes) if length_bytes else b"")
    key = (mask * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)


def client_frames(payload: bytes, mask: bytes, *, fragment_bytes: int | None = None) -> bytes:
    """Return a whole text message, masked with 4 bytes, as one frame or as fragments of this size (section 5.4)."""
    size = fragment_bytes or max(1, len(payload))
    parts = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
    frames = bytearray()
    for number, part in enumerate(parts):
        first = (TEXT if number == 0 else CONTINUATION) | (_FINAL if number == len(parts) - 1 else 0)
        frames += _masked(first, part, mask)
    return bytes(frames)


class FrameReader:
    """Takes bytes as they come and gives the frames that they complete."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield opcode, with the bit of compression, and payload of each frame; exhaust the iterator before the next chunk.

        :raises ValueError: at a frame that is a fragment or masked, which none of the servers sends.
        """
        data = self._held + chunk
        at = 0
        while (extent := _extent(data, at)) is not None:
            start, end = extent
            yield data[at] & 0x4F, data[start:end]
            at = end
        self._held = data[at:]


def _extent(data: bytes, at: int) -> tuple[int, int] | None:
    """Return where the payload of the frame at `at` starts and ends, None if it is not all there."""
    if len(data) < at + 2:
        return None
    if not data[at] & _FINAL or data[at + 1] & _MASKED:
        raise ValueError("a frame is a fragment or masked")
    size, start = data[at + 1], at + 2
    if size >= _SHORT:
        start += 2 if size == _SHORT else 8
        if len(data) < start:
            return None
        size = int.from_bytes(data[at + 2 : start])
    return (start, start + size) if len(data) >= start + size else None
