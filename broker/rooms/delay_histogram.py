"""A histogram of delays with logarithmic buckets, of constant size. Pure."""

from bisect import bisect_left
from collections.abc import Sequence

BUCKETS_PER_DOUBLING = 4
"""A quantile is at most 19 % too high, and never too low."""

BOUNDS_SECONDS = tuple(2 ** (step / BUCKETS_PER_DOUBLING) for step in range(-64, 25))
"""Upper bounds of all buckets but the last, from 15 µs to 64 s."""


class DelayHistogram:
    """Counts delays. `note` is a search in a short table: cheap enough for each batch of a room."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_SECONDS) + 1)
        self.sum_seconds = 0.0
        """All delays together."""

    def note(self, seconds: float, count: int = 1) -> None:
        """Count `count` delays of `seconds`."""
        self.sum_seconds += seconds * count
        self._counts[bisect_left(BOUNDS_SECONDS, seconds)] += count

    def snapshot(self) -> tuple[int, ...]:
        """Return the counts of all buckets since the start; subtract two snapshots for an interval."""
        return tuple(self._counts)


def quantile_seconds(counts: Sequence[int], share: float) -> float | None:
    """Return the delay that `share` (0 to 1) of the counted delays did not exceed; None if nothing was counted."""
    left = share * sum(counts)
    if not left:
        return None
    for count, bound in zip(counts, BOUNDS_SECONDS, strict=False):
        left -= count
        if left <= 0:
            return bound
    return BOUNDS_SECONDS[-1]
