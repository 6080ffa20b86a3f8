"""How a worker shows its parent that its event loop turns, and when the parent takes it to stand still."""

import os
from contextlib import suppress

import attrs
import trio

BEATS_PER_LIMIT = 10
LONGEST_INTERVAL_SECONDS = 1.0
STARTING_SECONDS = 300.0
"""How long a worker may take until its event loop runs: on a busy machine it takes long to import everything."""


def interval_seconds(limit_seconds: float) -> float:
    """Return how often a worker sends a heartbeat, and its parent looks, if it may be silent for `limit_seconds`."""
    return min(LONGEST_INTERVAL_SECONDS, limit_seconds / BEATS_PER_LIMIT)


async def send_heartbeats(descriptor: int, *, limit_seconds: float) -> None:
    """Write to a pipe again and again until cancelled: from the event loop, so that they end when it stands still."""
    os.set_blocking(descriptor, False)
    while True:
        write_line(descriptor, b"alive")
        await trio.sleep(interval_seconds(limit_seconds))


def write_line(descriptor: int, text: bytes) -> None:
    """Write a line to the parent, unless it is gone, or has read nothing for so long that the pipe is full."""
    with suppress(BlockingIOError, BrokenPipeError):
        os.write(descriptor, text + b"\n")


@attrs.define
class Silence:
    """For how long a worker has said nothing, as far as its parent was there to hear it. Pure."""

    limit_seconds: float
    silent_seconds: float = 0.0
    _is_started: bool = False

    def heard(self) -> None:
        """Note that the worker has said something."""
        self.silent_seconds = 0.0
        self._is_started = True

    def passed(self, seconds: float) -> None:
        """Note that so much time has passed since the last call.

        Of a time much longer than planned only a part counts: then the parent itself, or the whole machine, stood
        still, and what the worker has said meanwhile is still to be read.
        """
        self.silent_seconds += min(seconds, 2 * interval_seconds(self.limit_seconds))

    @property
    def is_too_long(self) -> bool:
        """Whether the worker is to be given up."""
        least = 0.0 if self._is_started else STARTING_SECONDS
        return self.silent_seconds >= max(self.limit_seconds, least)
