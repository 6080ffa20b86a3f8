"""How fast one connection may send. Pure."""


class TokenBucket:
    """Lets through `rate` messages a second on average and `burst` at once; times are in seconds."""

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._updated = now

    def take(self, now: float, count: int = 1) -> float:
        """Let `count` through and return 0, or none, and return after how many seconds they may come."""
        earned = self._tokens + (now - self._updated) * self._rate
        # What was excused may be above the burst, and stays.
        self._tokens = max(self._tokens, min(self._burst, earned))
        self._updated = now
        if self._tokens < count:
            return (count - self._tokens) / self._rate
        self._tokens -= count
        return 0.0

    def give_back(self, count: int) -> None:
        """Return `count` that were let through and did not come."""
        self._tokens += count

    def credit_elapsed(self, now: float) -> None:
        """Let the time since the last message count in full: who was held up may catch up, whatever the burst."""
        self._tokens += (now - self._updated) * self._rate
        self._updated = now
