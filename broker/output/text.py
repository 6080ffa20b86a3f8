"""Text streams over file descriptors; one of them never blocks its writer.

A blocked reader, such as a stopped `less`, a full pipe or a paused terminal, blocks a plain write for ever, and with it
every connection of a server that logs.
"""

import io
import os
import select
from collections.abc import Callable

from broker.output.background import BackgroundQueue

MAX_PART_BYTES = 65_536
"""Most bytes held of a line without its end."""


class DescriptorText(io.TextIOBase):
    """A text stream over a file descriptor; characters that the encoding lacks are escaped. `write` is its heirs'."""

    def __init__(self, descriptor: int, encoding: str) -> None:
        self._descriptor = descriptor
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """See io.TextIOBase."""
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        """See io.TextIOBase."""
        return "backslashreplace"

    def fileno(self) -> int:
        """See io.IOBase."""
        return self._descriptor

    def isatty(self) -> bool:
        """See io.IOBase."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """See io.IOBase."""
        return True

    def encode(self, text: str) -> bytes:
        """Return `text` as bytes in this stream's encoding."""
        if not isinstance(text, str):
            raise TypeError(f"text expected, not {type(text).__name__}")
        return text.encode(self.encoding, self.errors)


class BackgroundText(DescriptorText):
    """Text for a file descriptor, written in whole lines by a thread of its own.

    It bypasses Python's buffered writer, whose lock a blocked thread would hold when the interpreter ends. Writing
    never raises an OSError: lines that do not fit into the queue, or cannot be written, are dropped and counted.
    """

    def __init__(self, descriptor: int, encoding: str) -> None:
        super().__init__(descriptor, encoding)
        self._part = ""
        self._is_within_line = False
        self.line_of_loss: Callable[[int], str] = lambda lines: f"{lines} lines dropped\n"
        """Makes the line that reports how many were dropped."""
        self._queue: BackgroundQueue[bytes] = BackgroundQueue(
            self._write_out, lambda lines: self.encode(self.line_of_loss(lines))
        )

    @property
    def lines_dropped(self) -> int:
        """How many lines were dropped since the beginning."""
        return self._queue.dropped

    def write(self, text: str) -> int:
        """Queue whole lines at once, the rest when its line ends or is flushed."""
        if not isinstance(text, str):
            raise TypeError(f"text expected, not {type(text).__name__}")
        lines, end, self._part = (self._part + text).rpartition("\n")
        if end:
            self._put(lines + end)
        if len(self._part) > MAX_PART_BYTES:
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Queue the incomplete line; `drain` waits until it is written."""
        part, self._part = self._part, ""
        if part:
            self._put(part)

    def drain(self, timeout_seconds: float) -> bool:
        """Wait until everything is written, or the time is over; returns whether it is."""
        self.flush()
        return self._queue.flush(timeout_seconds)

    def _put(self, text: str) -> None:
        data = self.encode(text)
        self._queue.put_nowait(data, len(data))

    def _write_out(self, data: bytes) -> bool:
        if self._is_within_line:
            # The rest of the line before could not be written.
            data = b"\n" + data
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[write_some(self._descriptor, rest) :]
        except OSError:
            self._is_within_line = self._is_within_line or 0 < len(rest) < len(data)
            return False
        self._is_within_line = False
        return True


def write_some(descriptor: int, data: memoryview | bytes) -> int:
    """Write as much as fits, after waiting until something does, and return how much that was.

    :raises OSError: if nothing can be written any more.
    """
    while True:
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            # Another program that shares this pipe or terminal has made it non-blocking.
            select.select((), (descriptor,), ())


def is_utf8(text: str) -> bool:
    """Whether `text` has a UTF-8 form: lone surrogates (PEP 383) have none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
