"""Decides what is done next with the entries of one queue. Pure.

The entries are posted in the order of their numbers, a batch at a time. A batch that fails is posted again, with
exponential backoff and full jitter, and the entries behind it wait. An entry that has been tried, and has been in the
queue for `give_up_seconds`, is put aside; so is one that has not been tried, if there was nobody to connect to.
"""

from collections.abc import Sequence
from enum import StrEnum
from random import Random
from typing import TypeAlias

import attrs

from broker.engine.outbox import Entry

FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 1.0, 300.0
"""Bounds of the longest pause after a failure; it doubles."""


class FailureReason(StrEnum):
    """The kinds of failures, as metrics name them."""

    CONNECT = "connect"
    """No connection: refused, no such host, no valid certificate."""
    TIMEOUT = "timeout"
    """Not answered in time."""
    REDIRECT = "redirect"
    """A status 3xx; redirects are not followed."""
    STATUS = "status"
    """Another status than 2xx."""
    ANSWER = "answer"
    """An answer that is cut off, no HTTP, or too large."""


@attrs.frozen
class Failure:
    """A request that was not answered with a status 2xx."""

    reason: FailureReason
    detail: str
    """For the log, and for the entries put aside; holds nothing that the receiver chose freely."""


@attrs.frozen
class Post:
    """Post the batch now."""


@attrs.frozen
class Wait:
    """Wait before the next attempt."""

    seconds: float


@attrs.frozen
class PutAside:
    """Put entries aside."""

    numbers: tuple[int, ...]
    reason: str


Step: TypeAlias = Post | Wait | PutAside


def longest_pause(failures: int) -> float:
    """Return the bound of the pause after so many failures in a row, in seconds."""
    # The exponent is bounded, as a receiver may be away for weeks.
    return min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 16))


@attrs.define
class Progress:
    """The progress of one queue. Times named `now` are of a monotonic clock, those named `now_ms` Unix milliseconds."""

    _give_up_ms: float
    _random: Random
    _failures: int = 0
    """Failures since the last batch that was delivered."""
    _failure: Failure | None = None
    """The failure of the last attempt."""
    _tried: frozenset[int] = frozenset()
    """The numbers of the last attempt, if it failed."""
    _retry_at: float = float("-inf")

    def next_step(self, entries: Sequence[Entry], *, now: float, now_ms: int) -> Step:
        """Return what to do with the first entries of the queue: those of the last attempt, if it failed."""
        if self._failure is None:
            return Post()
        overdue = tuple(entry.number for entry in entries if now_ms - entry.queued_ms >= self._give_up_ms)
        if overdue:
            return PutAside(overdue, self._failure.detail)
        if now < self._retry_at:
            return Wait(self._retry_at - now)
        return Post()

    def delivered(self) -> None:
        """Note that a batch was delivered."""
        self._failures, self._failure, self._tried = 0, None, frozenset()

    def failed(self, entries: Sequence[Entry], failure: Failure, *, now: float) -> None:
        """Note that `entries` were posted in vain."""
        self._failures += 1
        self._failure = failure
        self._tried = frozenset(entry.number for entry in entries)
        self._retry_at = now + self._random.uniform(0.0, longest_pause(self._failures))

    def put_aside(self, numbers: Sequence[int]) -> None:
        """Note that entries were put aside. What comes behind them may be taken, so it is tried without a pause."""
        assert self._failure is not None
        self._tried -= set(numbers)
        if not self._tried and self._failure.reason is not FailureReason.CONNECT:
            self._failure = None
