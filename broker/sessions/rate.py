"""The token bucket of rate limits. Pure."""


class TokenBucket:
    """Permits `rate` messages a second on average and `burst` at once; times are in seconds."""

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = self._tokens = float(burst)
        self._updated = now

    def take(self, now: float, count: int = 1) -> float:
        """Take `count` tokens and return 0, or take none and return the seconds until there are enough."""
        tokens = self._tokens
        # Credit of elapsed time may exceed the burst, and is kept.
        if tokens < self._burst:
            tokens += (now - self._updated) * self._rate
            if tokens > self._burst:  # noqa: PLR1730  # to call min costs as much as all else here
                tokens = self._burst
        self._updated = now
        if tokens < count:
            self._tokens = tokens
            return (count - tokens) / self._rate
        self._tokens = tokens - count
        return 0.0

    def give_back(self, count: int) -> None:
        """Return `count` unused tokens."""
        self._tokens += count

    def credit_elapsed(self, now: float) -> None:
        """Credit the time since the last message in full, beyond the burst: after a wait the sender may catch up."""
        self._tokens += (now - self._updated) * self._rate
        self._updated = now
