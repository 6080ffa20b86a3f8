"""The standard streams of a command, whatever a terminal, a pipe or a file system does to them.

Three things go wrong with Python's own. A stream that was closed when the program began is None, and its number goes to
the next file or socket that is opened. What a full disk or a reader that went away refuses is only seen when the
interpreter ends, as a traceback. And a character that the terminal's encoding lacks is an exception.
"""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO, cast

from broker.errors import GreenroomError
from broker.output.background import FLUSH_SECONDS
from broker.output.text import BackgroundText, write_some


class OutputError(GreenroomError):
    """Standard output takes nothing any more."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to standard output: {error.strerror}")
        self.is_reader_gone = error.errno == errno.EPIPE
        """Whether whoever read it has seen enough, which is no fault: `greenroom tail ROOM | head -1`."""


class DirectText(io.TextIOBase):
    """Text for a file descriptor, written at once; `is_vital` says whether a failure raises OutputError."""

    def __init__(self, descriptor: int, encoding: str, *, is_vital: bool) -> None:
        self._descriptor = descriptor
        self._encoding = encoding
        self._is_vital = is_vital

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

    def write(self, text: str) -> int:
        """Write all of `text`; blocks until that is done.

        :raises OutputError: if the stream is vital and cannot be written.
        """
        if not isinstance(text, str):
            raise TypeError(f"text expected, not {type(text).__name__}")
        rest = memoryview(text.encode(self._encoding, "backslashreplace"))
        try:
            while rest:
                rest = rest[write_some(self._descriptor, rest) :]
        except OSError as error:
            if self._is_vital:
                raise OutputError(error) from None
        return len(text)


@contextmanager
def standard_streams() -> Iterator[None]:
    """Let the block write to `sys.stdout` and `sys.stderr` without the faults of Python's own.

    Streams that are no files, as in tests, stay as they are. At the end, what `use_background` left unwritten has
    FLUSH_SECONDS.
    """
    _fill_gaps()
    before = sys.stdout, sys.stderr
    sys.stdout = _direct(sys.stdout, 1, is_vital=True)
    sys.stderr = _direct(sys.stderr, 2, is_vital=False)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, BackgroundText):
                stream.drain(FLUSH_SECONDS)
        sys.stdout, sys.stderr = before


def use_background(*, with_output: bool = True) -> None:
    """Let a thread write what is said from now on, so that no event loop waits for a reader that stands still.

    Whatever writes to `sys.stderr`, as warnings and the logging of libraries do, writes so too. Lines may get lost:
    not for output that is a command's purpose, hence `with_output`.
    """
    if with_output:
        sys.stdout = _background(sys.stdout)
    sys.stderr = _background(sys.stderr)


def _fill_gaps() -> None:
    """Open something on each standard descriptor that is closed, which fails when it is used, as a closed one does."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest number that is free is taken, and those below are not.
            os.open(os.devnull, os.O_WRONLY if descriptor == 0 else os.O_RDONLY)


def _direct(stream: TextIO | None, descriptor: int, *, is_vital: bool) -> TextIO:
    if stream is None:
        return cast("TextIO", DirectText(descriptor, "utf-8", is_vital=is_vital))
    with suppress(OSError, ValueError):
        if stream.fileno() == descriptor:
            stream.flush()
            return cast("TextIO", DirectText(descriptor, stream.encoding, is_vital=is_vital))
    return stream


def _background(stream: TextIO) -> TextIO:
    if isinstance(stream, DirectText):
        return cast("TextIO", BackgroundText(stream.fileno(), stream.encoding))
    return stream
