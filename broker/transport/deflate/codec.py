"""Compresses the frames for clients with permessage-deflate, each event once for all of them (RFC 7692 section 7.2.1).

No context is taken over from one message to the next, so a compressed frame belongs to no connection.
"""

import zlib
from collections.abc import Iterator, Sequence
from weakref import WeakValueDictionary

from broker.config.settings import WebSocketSettings
from broker.notices import Notice, RoomEvent
from broker.rooms.member import Codec
from broker.sessions.deflate_tally import DeflateTally
from broker.transport.deflate.negotiation import MIN_WINDOW_BITS, Agreement
from broker.transport.frame_boundaries import head_bytes, payload_bytes
from broker.transport.frames import text_frame

MAX_TEXT_BYTES = 131_072
"""Larger messages stay as they are: to compress one would hold up all other connections for milliseconds."""

MAX_KEPT_BYTES = 65_536
"""Frames of the newest events are kept up to about this size, for other members who get the same events by filters."""

_ZLIB_LOOKAHEAD_BYTES = 262
"""How much less than the window zlib refers back (MIN_LOOKAHEAD)."""
_TEXT = 0x81
_COMPRESSED_TEXT = b"\xc1"
"""With the first reserved bit (section 6.1)."""
_FLUSHED = b"\x00\x00\xff\xff"


class DeflateCodec:
    """Encodes as another codec does, and compresses the text frames that are worth it."""

    def __init__(
        self, plain: Codec, *, window_bits: int, level: int, min_bytes: int, tally: DeflateTally
    ) -> None:
        """Messages below `min_bytes` are not compressed."""
        self._plain = plain
        self._window_bits = window_bits
        self._level = level
        self._min_bytes = min_bytes
        self._tally = tally
        # Under their ids, which are theirs while they are here.
        self._kept: dict[int, tuple[RoomEvent, bytes]] = {}
        self._kept_bytes = 0

    def encode(self, notices: Sequence[Notice]) -> bytes:
        """Return a frame for each notice, joined."""
        if len(notices) == 1:
            return self._encode(notices[0])
        return b"".join([self._encode(notice) for notice in notices])

    def _encode(self, notice: Notice) -> bytes:
        kept = self._kept.get(id(notice))
        if kept is not None:
            return kept[1]
        frames = self._plain.encode((notice,))
        if len(frames) < self._min_bytes:
            return frames
        compressed = b"".join([self._compress(frame) for frame in _split(frames)])
        if isinstance(notice, RoomEvent):
            self._keep(notice, compressed)
        return compressed

    def _keep(self, notice: RoomEvent, frames: bytes) -> None:
        if self._kept_bytes > MAX_KEPT_BYTES:
            self._kept.clear()
            self._kept_bytes = 0
        self._kept[id(notice)] = (notice, frames)
        self._kept_bytes += len(frames)

    def _compress(self, frame: bytes) -> bytes:
        """Return a frame compressed, or as it is if that is no use."""
        size = payload_bytes(frame)
        if frame[0] != _TEXT or not self._min_bytes <= size <= MAX_TEXT_BYTES:
            return frame
        # No window larger than the message is of any use, and zlib clears all of it: for a small message that takes
        # five times as long as to compress it.
        bits = min(self._window_bits, max(MIN_WINDOW_BITS, (size + _ZLIB_LOOKAHEAD_BYTES).bit_length()))
        deflater = zlib.compressobj(self._level, zlib.DEFLATED, -bits, min(8, bits - 6))
        payload = deflater.compress(frame[-size:]) + deflater.flush(zlib.Z_SYNC_FLUSH)
        compressed = _COMPRESSED_TEXT + text_frame(payload.removesuffix(_FLUSHED))[1:]
        if len(compressed) >= len(frame):
            return frame
        self._tally.note(len(frame), len(compressed))
        return compressed


class Deflate:
    """The codecs of a node; connections with the same agreement and settings share one, while any of them is open."""

    def __init__(self) -> None:
        self.tally = DeflateTally()
        self._codecs: WeakValueDictionary[tuple[Codec, int, int, int], DeflateCodec] = WeakValueDictionary()

    def codec_of(self, plain: Codec, agreement: Agreement, settings: WebSocketSettings) -> DeflateCodec:
        """Return the codec of one more connection."""
        self.tally.connections += 1
        level, min_bytes = settings.compression_level, settings.compression_min_bytes
        key = plain, agreement.window_bits, level, min_bytes
        codec = self._codecs.get(key)
        if codec is None:
            codec = DeflateCodec(
                plain, window_bits=agreement.window_bits, level=level, min_bytes=min_bytes, tally=self.tally
            )
            self._codecs[key] = codec
        return codec


def _split(frames: bytes) -> Iterator[bytes]:
    """Yield the frames in whole frames of a server, which have no mask."""
    at = 0
    while at < len(frames):
        head = frames[at : at + 10]
        size = (head_bytes(head) or 0) + payload_bytes(head)
        yield frames[at : at + size]
        at += size
