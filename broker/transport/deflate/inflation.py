"""Inflates compressed messages of clients, within a limit that holds before memory is taken (RFC 7692 section 7.2.2)."""

import zlib

from broker.errors import CloseCode

MAX_FINAL_BLOCKS = 100
"""In one message: behind each of them inflation begins anew, which costs much for the two bytes that one may have."""

SPARE_INPUT_BYTES = 65_536
"""Compressed bytes allowed beyond twice the limit, for the flushes of small fragments. Blocks may be empty: without a
bound such a message had no end."""

_FLUSHED = b"\x00\x00\xff\xff"
"""The end of a flush, which the sender leaves out (section 7.2.1)."""
_LAST_BLOCK = b"\x01\x00\x00\xff\xff"


class InflateError(Exception):
    """A message cannot be inflated; the connection is to be closed with this code."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Inflater:
    """Inflates one message, in whatever pieces it comes."""

    __slots__ = ("_final_blocks", "_input_bytes", "_left_bytes", "_most_input_bytes", "_zlib")

    def __init__(self, limit_bytes: int) -> None:
        """`limit_bytes` is the size of the largest message, inflated."""
        self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
        self._left_bytes = limit_bytes
        self._input_bytes = 0
        self._most_input_bytes = 2 * limit_bytes + SPARE_INPUT_BYTES
        self._final_blocks = 0

    def inflate(self, data: bytes) -> bytes:
        """Return what the next piece adds to the message.

        :raises InflateError: 1007 over invalid data, 1009 past the limit.
        """
        self._input_bytes += len(data)
        if self._input_bytes > self._most_input_bytes:
            raise _too_big()
        inflated = self._decompress(data) if data else b""
        # Another block may follow one that is marked as the last (section 7.2.1).
        while rest := self._zlib.unused_data:
            self._begin_anew()
            inflated += self._decompress(rest)
        return inflated

    def finish(self) -> bytes:
        """Return the end of the message.

        :raises InflateError: as `inflate`; 1007 also if the data is cut off.
        """
        if not self._input_bytes or self._has_ended():
            # Senders who mark the last block as such, and who send nothing for nothing, are understood by all others.
            return b""
        inflated = self.inflate(_FLUSHED)
        # Only behind a whole block this is another, and the last.
        if self._decompress(_LAST_BLOCK) or self._zlib.unused_data or not self._has_ended():
            raise _invalid()
        return inflated

    def _has_ended(self) -> bool:
        """Whether a block was marked as the last."""
        return self._zlib.eof

    def _begin_anew(self) -> None:
        self._final_blocks += 1
        if self._final_blocks > MAX_FINAL_BLOCKS:
            raise _too_big()
        self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)

    def _decompress(self, data: bytes) -> bytes:
        try:
            inflated = self._zlib.decompress(data, self._left_bytes + 1)
        except zlib.error:
            raise _invalid() from None
        self._left_bytes -= len(inflated)
        if self._left_bytes < 0:
            raise _too_big()
        return inflated


def inflate_message(payload: bytes, limit_bytes: int) -> bytes | None:
    """Return a whole message, None if it cannot be inflated."""
    inflater = Inflater(limit_bytes)
    try:
        return inflater.inflate(payload) + inflater.finish()
    except InflateError:
        return None


def _too_big() -> InflateError:
    return InflateError(CloseCode.MESSAGE_TOO_BIG, "message too big")


def _invalid() -> InflateError:
    return InflateError(CloseCode.INVALID_UTF8, "invalid compressed data")
