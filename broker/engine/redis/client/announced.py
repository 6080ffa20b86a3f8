"""The elements that the aggregates of a reply announce: counted before hiredis reserves memory for them."""

import re

import attrs

MOST_ELEMENTS = 10_000_000
"""Most elements that the larger aggregates of one reply may announce in sum.

hiredis reserves a list of the announced length before the first element arrives, and has no limit of its own below 2**32:
to free such a list takes seconds, also if it is empty.
"""

MOST_LINE_BYTES = 65_536
MOST_KEPT_BYTES = 1 << 20

_AGGREGATES = b"*%~>|"
_OF_PAIRS = b"%|"
_BULKS = b"$=!"
_LARGE = [(bytes([kind]), re.compile(re.escape(bytes([kind])) + rb"[1-9][0-9]{3}")) for kind in _AGGREGATES]
"""What the header of an aggregate of 1,000 elements or more begins with. Content may look alike. Smaller ones are not counted.

One expression for each kind, and only where that byte is found at all: a class of bytes is matched byte by byte.
"""
_LARGE_BYTES = 5


class TooManyElementsError(Exception):
    """A reply announces more elements than it may have, or has a line without end."""


@attrs.define
class AnnouncedElements:
    """Counts what the replies of one connection announce.

    Bytes are read twice only if something in them looks like a large header: then what came since the last boundary of
    items is followed item by item, so that content of strings is not taken for headers. The time is linear in what comes.
    """

    _kept: list[bytes] = attrs.field(factory=list, init=False)
    """What came since the last boundary, or what the last scan left of it."""
    _kept_bytes: int = attrs.field(default=0, init=False)
    _skip_bytes: int = attrs.field(default=0, init=False)
    """So many of them belong to a string that the last scan found."""
    _is_line_open: bool = attrs.field(default=False, init=False)
    _tail: bytes = attrs.field(default=b"", init=False)
    _elements: int = attrs.field(default=0, init=False)

    def add(self, data: bytes) -> None:
        """Count what `data` announces, before a parser sees it.

        :raises TooManyElementsError: if the reply is not to be parsed.
        """
        window = self._tail + data
        self._tail = window[1 - _LARGE_BYTES :]
        self._kept.append(data)
        self._kept_bytes += len(data)
        if self._is_line_open or self._kept_bytes > MOST_KEPT_BYTES or _may_have_large(window):
            self._scan()

    def at_boundary(self) -> None:
        """Note that the parser took all bytes: the next is the first of an item."""
        self._kept.clear()
        self._kept_bytes = self._skip_bytes = 0
        self._is_line_open = False
        self._tail = b""

    def reply_ended(self) -> None:
        """Note that the parser returned a reply: the next may have as many elements."""
        self._elements = 0

    def _scan(self) -> None:
        data = b"".join(self._kept)
        position = self._skip_bytes
        while position < len(data) and (end := data.find(b"\r\n", position)) >= 0:
            position = self._after_item(data, position, end)
        rest = data[position:]
        if len(rest) > MOST_LINE_BYTES:
            raise TooManyElementsError
        self._kept = [rest] if rest else []
        self._kept_bytes = len(rest)
        self._skip_bytes = max(0, position - len(data))
        self._is_line_open = bool(rest)

    def _after_item(self, data: bytes, begin: int, end: int) -> int:
        """Count the item whose line is `data[begin:end]`, and return where the next one begins."""
        kind, number = data[begin], data[begin + 1 : end]
        if not number.isdigit() or len(number) > 20:
            return end + 2
        if kind in _AGGREGATES and len(number) >= _LARGE_BYTES - 1:
            self._elements += int(number) * (2 if kind in _OF_PAIRS else 1)
            if self._elements > MOST_ELEMENTS:
                raise TooManyElementsError
        if kind in _BULKS:
            return end + 2 + int(number) + 2
        return end + 2


def _may_have_large(data: bytes) -> bool:
    return any(kind in data and header.search(data) for kind, header in _LARGE)
