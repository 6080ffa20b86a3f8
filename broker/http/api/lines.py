"""Cuts a stream of bytes into lines, none of them larger than a limit. Pure."""

from collections.abc import Iterator

import attrs


@attrs.frozen
class Line:
    """A line without its end; `text` is None if it was too long."""

    number: int
    text: bytes | None


class LineSplitter:
    """Splits chunks into the lines that they complete; holds at most one line's limit of bytes.

    Lines end with LF or CRLF. Blank ones are counted and left out.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._number = 0
        self._held = bytearray()
        self._is_too_long = False

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """Add a chunk; exhaust the iterator before the next one."""
        *complete, rest = chunk.split(b"\n")
        for piece in complete:
            self._hold(piece)
            yield from self._take()
        self._hold(rest)

    def finish(self) -> Iterator[Line]:
        """Give the last line, if it has no end."""
        yield from self._take()

    def _hold(self, piece: bytes) -> None:
        # One more for the CR that may still be cut off.
        if len(self._held) + len(piece) > self._limit_bytes + 1:
            self._is_too_long = True
            self._held.clear()
        elif not self._is_too_long:
            self._held += piece

    def _take(self) -> Iterator[Line]:
        self._number += 1
        text = bytes(self._held).removesuffix(b"\r")
        is_too_long = self._is_too_long or len(text) > self._limit_bytes
        self._held.clear()
        self._is_too_long = False
        if is_too_long:
            yield Line(self._number, None)
        elif text.strip():
            yield Line(self._number, text)
