"""Histograms of delays and of sizes with logarithmic buckets, of constant size. Pure."""

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


SIZE_BOUNDS = tuple(2**bits - 1 for bits in range(1, 18))
"""Upper bounds of all buckets of SizeHistogram but the last: 1, 3, 7 … 131,071."""


class SizeHistogram:
    """Counts the sizes of batches, each at least 1. `note` is cheap enough for each turn of the scheduler."""

    def __init__(self) -> None:
        self.counts = [0] * 65
        """How many, by the bits of the size, which is less than 2 to the 64th."""
        self.total = 0
        """All sizes together."""

    def note(self, size: int) -> None:
        """Count a batch of `size`."""
        self.counts[size.bit_length()] += 1
        self.total += size

    def snapshot(self) -> tuple[int, ...]:
        """Return the counts of all buckets since the start."""
        largest = len(SIZE_BOUNDS) + 1
        return (*self.counts[1:largest], sum(self.counts[largest:]))


def with_singles(sizes: SizeHistogram, count: int) -> SizeHistogram:
    """Return `sizes` and `count` batches of 1, where only larger batches are noted."""
    together = SizeHistogram()
    together.counts = sizes.counts.copy()
    together.counts[1] += count
    together.total = sizes.total + count
    return together
