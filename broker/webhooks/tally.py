"""Counts the deliveries of one webhook, and logs a few lines of them, however often they fail."""

from collections import Counter

import attrs
import trio

from broker.engine.outbox import QueueStatistics
from broker.log import Log
from broker.model import WallClock
from broker.webhooks.progress import Failure, FailureReason

LINE_SECONDS = 60.0
"""The least time between two lines of one kind."""


@attrs.frozen
class Lengths:
    """The lengths of a queue, over the partitions that this node delivers from."""

    waiting: int
    oldest_seconds: float
    """The age of the oldest entry that waits; 0 if none does."""
    aside: int
    dropped: int
    """Entries lost since the start."""


@attrs.define(eq=False)
class Tally:
    """The counts of one webhook on this node since its start."""

    name: str
    _log: Log
    _wall_clock: WallClock
    delivered_count: int = 0
    """Entries delivered."""
    aside_count: int = 0
    """Entries put aside."""
    failures: Counter[FailureReason] = attrs.Factory(Counter)
    """Requests that failed."""
    queues: dict[str, QueueStatistics] = attrs.Factory(dict)
    """The last snapshot of the queue in each partition that this node delivers from."""
    _away_since: float | None = None
    """The trio time of the first failure since the last success."""
    _is_told: bool = False
    """Whether the log has that the receiver is away."""
    _line_at: dict[str, float] = attrs.Factory(dict)
    _unlogged_aside: int = 0

    def lengths(self) -> Lengths:
        """Return the lengths of the queue, some seconds old."""
        queues = self.queues.values()
        oldest_ms = min((queue.oldest_ms for queue in queues if queue.oldest_ms is not None), default=None)
        now_ms = self._wall_clock() * 1000
        return Lengths(
            waiting=sum(queue.waiting for queue in queues),
            oldest_seconds=0.0 if oldest_ms is None else max(0.0, now_ms - oldest_ms) / 1000,
            aside=sum(queue.aside for queue in queues),
            dropped=sum(queue.dropped for queue in queues),
        )

    def delivered(self, count: int) -> None:
        """Note that `count` entries were delivered."""
        self.delivered_count += count
        if self._is_told and self._away_since is not None:
            away_seconds = round(trio.current_time() - self._away_since, 1)
            self._log.info("webhook delivers again", webhook=self.name, away_seconds=away_seconds)
        self._away_since, self._is_told = None, False

    def failed(self, failure: Failure) -> None:
        """Note that a request failed."""
        self.failures[failure.reason] += 1
        if self._away_since is None:
            self._away_since = trio.current_time()
        if not self._is_told and self._may_log("away"):
            self._is_told = True
            reason = f"{failure.reason.value}: {failure.detail}"
            self._log.warning("webhook not delivered, tried again", webhook=self.name, reason=reason)

    def put_aside(self, count: int, reason: str) -> None:
        """Note that `count` entries were put aside."""
        self.aside_count += count
        self._unlogged_aside += count
        if self._may_log("aside"):
            self._log.warning(
                "webhook entries put aside", webhook=self.name, entries=self._unlogged_aside, reason=reason
            )
            self._unlogged_aside = 0

    def _may_log(self, kind: str) -> bool:
        now = trio.current_time()
        if now < self._line_at.get(kind, float("-inf")) + LINE_SECONDS:
            return False
        self._line_at[kind] = now
        return True
