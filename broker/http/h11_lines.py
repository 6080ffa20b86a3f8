"""The lines that h11 reads, checked first in linear time.

h11 0.16 matches lines with expressions that try again from every blank when a line does not fit: 16 KB of blanks and
a NUL, in a header, a trailer or the extension of a chunk, take more than a second. What does not fit is found here.
"""

import re
from collections.abc import Callable

import h11
from h11._receivebuffer import ReceiveBuffer

_BAD_HEADER = re.compile(rb"^[ \t]|[\x00\r\x0b\x0c]")
"""A continued line, which a server may refuse (RFC 9112 section 5.2), and what no value may hold (RFC 9110 section 5.5)."""
_BAD_CHUNK = re.compile(rb"[\x00\r\n\x0b\x0c]")


class CheckedLines(ReceiveBuffer):
    """What h11 keeps of what came, until it has whole lines."""

    def __init__(self, is_before_request: Callable[[], bool]) -> None:
        super().__init__()
        self._is_before_request = is_before_request

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """Extract a head or a trailer section.

        :raises h11.RemoteProtocolError: if a line cannot be part of one.
        """
        if self._is_before_request() and self._data.startswith(b"\r\n"):
            # A server should ignore an empty line before a request (RFC 9112 section 2.2).
            self.maybe_extract_at_most(2)
        lines = super().maybe_extract_lines()
        if lines is not None and any(_BAD_HEADER.search(line) for line in lines):
            raise h11.RemoteProtocolError("illegal header line")
        return lines

    def maybe_extract_next_line(self) -> bytearray | None:
        """Extract the line before a chunk.

        :raises h11.RemoteProtocolError: if it cannot be one.
        """
        line = super().maybe_extract_next_line()
        if line is not None and _BAD_CHUNK.search(line, 0, len(line) - 2):
            raise h11.RemoteProtocolError("illegal chunk header")
        return line

    def is_next_line_obviously_invalid_request_line(self) -> bool:
        """Whether no request can begin so; half of an empty line may come before one."""
        is_half_empty = self._is_before_request() and self._data == b"\r"
        return not is_half_empty and super().is_next_line_obviously_invalid_request_line()


def check_lines_of(connection: h11.Connection) -> None:
    """Let a connection read nothing but checked lines; to be called before it was given any bytes."""
    connection._receive_buffer = CheckedLines(lambda: connection.their_state is h11.IDLE)  # noqa: SLF001
