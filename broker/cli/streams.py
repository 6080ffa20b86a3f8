"""The standard streams of a command, without three faults of Python's own.

A stream that was closed when the program began is None, and its number goes to the next file or socket that is
opened. A full disk or a reader that is gone is noticed only when the interpreter ends, as a traceback. And a character
that the terminal's encoding lacks is an exception.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO, cast

from broker.errors import GreenroomError
from broker.output.background import FLUSH_SECONDS
from broker.output.text import BackgroundText, DescriptorText, write_some


class OutputError(GreenroomError):
    """Standard output cannot be written any more."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to standard output: {error.strerror}")
        self.is_reader_gone = error.errno == errno.EPIPE
        """Whether its reader has closed the pipe, which is no fault: `greenroom tail ROOM | head -1`."""


class DirectText(DescriptorText):
    """Text for a file descriptor, written at once; `is_vital` says whether a failure raises OutputError."""

    def __init__(self, descriptor: int, encoding: str, *, is_vital: bool) -> None:
        super().__init__(descriptor, encoding)
        self._is_vital = is_vital

    def write(self, text: str) -> int:
        """Write all of `text`; blocks until that is done.

        :raises OutputError: if the stream is vital and cannot be written.
        """
        rest = memoryview(self.encode(text))
        try:
            while rest:
                rest = rest[write_some(self._descriptor, rest) :]
        except OSError as error:
            if self._is_vital:
                raise OutputError(error) from None
        return len(text)


@contextmanager
def standard_streams() -> Iterator[None]:
    """Replace `sys.stdout` and `sys.stderr` for the block by streams without these faults.

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
    """Write from now on in a thread, so that no event loop waits for a blocked reader.

    That includes warnings and the logging of libraries to `sys.stderr`. Lines may be dropped, so output that is a
    command's purpose is left out without `with_output`.
    """
    if with_output:
        sys.stdout = _background(sys.stdout)
    sys.stderr = _background(sys.stderr)


def drain_log(timeout_seconds: float) -> None:
    """Wait until what was written to standard error has gone out, or the time is over. Blocks."""
    if isinstance(sys.stderr, BackgroundText):
        sys.stderr.drain(timeout_seconds)


def _fill_gaps() -> None:
    """Open the null device on each closed standard descriptor, in the mode that makes its use fail as before."""
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
