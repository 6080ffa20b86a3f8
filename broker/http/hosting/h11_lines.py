"""Checks of h11's input, in linear time.

h11 0.16 matches lines with expressions that try again from every blank when a line does not fit: 16 KB of blanks and
a NUL, in a header, a trailer or the extension of a chunk, take more than a second. Such lines are refused here before h11 reads them.
"""

import re
from collections.abc import Callable

import h11
from h11._receivebuffer import ReceiveBuffer

_BAD_HEADER = re.compile(rb"^[ \t]|[\x00\r\x0b\x0c]")
"""A continued line, which a server may refuse (RFC 9112 section 5.2), and octets that no value may hold (RFC 9110 section 5.5)."""
_BAD_CHUNK = re.compile(rb"[\x00\r\n\x0b\x0c]")


_TRANSFER_ENCODING = re.compile(rb"transfer-encoding:", re.IGNORECASE)


def _with_plain_transfer_encoding(lines: list[bytearray]) -> list[bytearray]:
    """Return the lines of a checked head as h11 reads them: with `chunked` alone in one line.

    The check leaves nothing else there, but for empty list members, which must be ignored (RFC 9110 section 5.6.1.2).
    """
    others = [line for line in lines if _TRANSFER_ENCODING.match(line) is None]
    return lines if len(others) == len(lines) else [*others, bytearray(b"Transfer-Encoding: chunked")]


class CheckedLines(ReceiveBuffer):
    """h11's receive buffer, which gives out checked lines only."""

    def __init__(
        self,
        max_bytes: int,
        is_before_request: Callable[[], bool],
        check_head: Callable[[bytes], int | None],
    ) -> None:
        super().__init__()
        self._max_bytes = max_bytes
        self._is_before_request = is_before_request
        self._check_head = check_head
        self._has_empty_line = False

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """Extract a head or a trailer section.

        :raises h11.RemoteProtocolError: if a line cannot be part of one.
        """
        is_before_request = self._is_before_request()
        if is_before_request and not self._has_empty_line and self._data.startswith(b"\r\n"):
            # A server should ignore an empty line before a request (RFC 9112 section 2.2). h11 refuses a second one.
            self.maybe_extract_at_most(2)
            self._has_empty_line = True
        before_bytes = len(self._data)
        lines = super().maybe_extract_lines()
        if not is_before_request:
            self._check_length(before_bytes - len(self._data))
        if lines is not None and any(_BAD_HEADER.search(line) for line in lines):
            raise h11.RemoteProtocolError("illegal header line")
        if lines and is_before_request:
            self._has_empty_line = False
            status = self._check_head(b"\r\n".join([*lines, b"", b""]))
            if status is not None:
                raise h11.RemoteProtocolError("refused", error_status_hint=status)
            return _with_plain_transfer_encoding(lines)
        return lines

    def maybe_extract_next_line(self) -> bytearray | None:
        """Extract the line before a chunk.

        :raises h11.RemoteProtocolError: if it cannot be one.
        """
        line = super().maybe_extract_next_line()
        self._check_length(len(line or b""))
        if line is not None and _BAD_CHUNK.search(line, 0, len(line) - 2):
            raise h11.RemoteProtocolError("illegal chunk header")
        return line

    def _check_length(self, length_bytes: int) -> None:
        """Refuse what h11 would have refused if its last byte had come later."""
        if length_bytes > self._max_bytes + 1:
            raise h11.RemoteProtocolError("too long", error_status_hint=431)

    def is_next_line_obviously_invalid_request_line(self) -> bool:
        """Whether no request begins with these bytes; h11 asks while it waits for the rest of a head."""
        return self._check_head(bytes(self._data)) is not None


class CheckedConnection(h11.Connection):
    """The server's side of a connection, which reads nothing but checked lines."""

    def __init__(self, max_incomplete_bytes: int, check_head: Callable[[bytes], int | None]) -> None:
        """`check_head` returns the status that refuses a request, given its head or how it begins; None if it is good."""
        super().__init__(h11.SERVER, max_incomplete_event_size=max_incomplete_bytes)
        self._receive_buffer = CheckedLines(
            max_incomplete_bytes, lambda: self.their_state is h11.IDLE, check_head
        )

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next event.

        Bytes behind the last request are dropped (RFC 9112 section 9.6). h11 would call it an error, over which
        hypercorn closes a connection in the midst of its last answer.
        """
        if self.their_state is h11.MUST_CLOSE:
            self._receive_buffer.maybe_extract_at_most(len(self._receive_buffer))
            return h11.NEED_DATA
        return super().next_event()
