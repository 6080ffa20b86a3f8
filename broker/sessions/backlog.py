"""The bytes that wait in all outboxes of a node for peers that read too slowly, and their limit."""

from collections import Counter
from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias

Relief: TypeAlias = Literal["closed", "dropped"]
"""The treatment of an outbox: its connection was closed with 4108, or its events were dropped."""

RELIEFS: tuple[Relief, ...] = ("closed", "dropped")

SPARE_SHARE = 8
"""An eighth of the limit is freed at a time, so that the slowest are looked for once in a while, and not for each frame."""


class SlowOutbox(Protocol):
    """An outbox, compared by identity."""

    def relieve(self) -> Relief | None:
        """Free what waits, by the policies of its rooms; None if it is ending anyhow."""
        ...


class Backlog:
    """The sum of what waits in outboxes. Past the limit, those with the most are relieved, the largest first.

    Outboxes note what waits only while their peers are behind, so a reader that keeps up costs nothing.
    """

    def __init__(
        self,
        limit_bytes: int | None = None,
        schedule: Callable[[Callable[[], int]], None] = lambda _relieve: None,
    ) -> None:
        """`schedule` is the flusher's: outboxes are relieved behind the turn, and not amid the sending of a room."""
        self._waiting: dict[SlowOutbox, int] = {}
        self.total_bytes = 0
        """Bytes that wait for all peers."""
        self.relieved: Counter[Relief] = Counter()
        """Outboxes that were relieved."""
        self._schedule = schedule
        self.set_limit(limit_bytes)

    def set_limit(self, limit_bytes: int | None) -> None:
        """Set the limit, which holds from the next frame that waits."""
        self._limit_bytes = limit_bytes
        self._relieve_above_bytes = limit_bytes

    def note(self, outbox: SlowOutbox, size_bytes: int) -> None:
        """Note how many bytes wait in an outbox now; 0 once its peer has read all, or is gone."""
        before = self._waiting.pop(outbox, 0)
        if size_bytes:
            self._waiting[outbox] = size_bytes
        self.total_bytes += size_bytes - before
        if self._relieve_above_bytes is None or self._limit_bytes is None:
            return
        if self.total_bytes <= self._limit_bytes:
            self._relieve_above_bytes = self._limit_bytes
        elif self.total_bytes > self._relieve_above_bytes:
            self._relieve_above_bytes = None  # until it is done
            self._schedule(self._relieve)

    def _relieve(self) -> int:
        limit = self._limit_bytes
        if limit is None:
            return 0
        target = limit - limit // SPARE_SHARE
        by_size = sorted(self._waiting, key=self._waiting.__getitem__, reverse=True)
        for outbox in by_size:
            if self.total_bytes <= target:
                break
            if (relief := outbox.relieve()) is not None:
                self.relieved[relief] += 1
        # What is being written, and close frames, stay: the outboxes are looked through again only once more waits.
        self._relieve_above_bytes = max(limit, self.total_bytes + limit // SPARE_SHARE)
        return 0
