"""Heartbeats from a worker's event loop, and the detection of a blocked worker."""

import os
from contextlib import suppress

import attrs
import trio

BEATS_PER_LIMIT = 10
LONGEST_INTERVAL_SECONDS = 1.0
STARTING_SECONDS = 300.0
"""How long a worker may take until its event loop runs: on a busy machine the imports take long."""


def interval_seconds(limit_seconds: float) -> float:
    """Return the interval of heartbeats and of their checks, for a silence of at most `limit_seconds`."""
    return min(LONGEST_INTERVAL_SECONDS, limit_seconds / BEATS_PER_LIMIT)


async def send_heartbeats(descriptor: int, *, limit_seconds: float) -> None:
    """Write heartbeats to a pipe until cancelled, from the event loop, so that they stop when it is blocked."""
    os.set_blocking(descriptor, False)
    while True:
        write_line(descriptor, b"alive")
        await trio.sleep(interval_seconds(limit_seconds))


def write_line(descriptor: int, text: bytes) -> None:
    """Write a line to the parent, unless it is gone or the pipe is full."""
    with suppress(BlockingIOError, BrokenPipeError):
        os.write(descriptor, text + b"\n")


@attrs.define
class Silence:
    """The time since a worker's last line, as far as its parent was running. Pure."""

    limit_seconds: float
    silent_seconds: float = 0.0
    _is_started: bool = False

    def reset(self) -> None:
        """Note that the worker has written."""
        self.silent_seconds = 0.0
        self._is_started = True

    def add(self, seconds: float) -> None:
        """Add the time since the last call.

        Of a time much longer than planned only a part counts: then the parent or the whole machine was blocked, and
        the worker's lines of that time are still to be read.
        """
        self.silent_seconds += min(seconds, 2 * interval_seconds(self.limit_seconds))

    @property
    def is_too_long(self) -> bool:
        """Whether the worker counts as blocked."""
        least = 0.0 if self._is_started else STARTING_SECONDS
        return self.silent_seconds >= max(self.limit_seconds, least)
