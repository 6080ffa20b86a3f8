"""When a client connects again. Pure."""

from random import Random

import attrs

FIRST_SECONDS = 1.0
MAX_SECONDS = 30.0
STABLE_SECONDS = 10.0
"""How long a connection must have held for the next attempts to begin at the first delay again."""


def backoff_seconds(attempt: int, random: Random) -> float:
    """Return the delay before the attempt after `attempt` (0, 1, …) failed ones.

    Exponential with full jitter: anything between nothing and the cap, so that clients that lost the same
    server do not come back together.
    """
    return random.uniform(0.0, min(MAX_SECONDS, FIRST_SECONDS * 2.0 ** min(attempt, 32)))


def may_reconnect(code: int) -> bool:
    """Whether a connection closed with `code` should be made again: not after 40xx, nor after 1000."""
    return code != 1000 and not 4000 <= code < 4100


@attrs.define
class Reconnects:
    """Decides when to connect again. Times are trio's, in seconds: what is left of a delay is waited for after a sleep."""

    _random: Random
    _attempt: int = 0
    _connected_at: float | None = None
    come_back_at: float | None = None
    """When the server wants this client back elsewhere, if it has said so on the present connection."""

    def connected(self, now: float) -> None:
        """Note that a connection was made."""
        self._connected_at = now
        self.come_back_at = None

    def told(self, now: float, after_seconds: float) -> None:
        """Note that the server has asked to come back after some seconds."""
        self.come_back_at = now + after_seconds

    def lost(self, now: float, code: int) -> float | None:
        """Return after how many seconds to connect again; None if not at all."""
        if not may_reconnect(code):
            return None
        if self._connected_at is not None and now - self._connected_at >= STABLE_SECONDS:
            self._attempt = 0
        delay = 0.0
        if self.come_back_at is not None:
            # The server has spread its clients itself; only one that never stays is also held back.
            delay = max(0.0, self.come_back_at - now)
        if self.come_back_at is None or self._attempt:
            delay += backoff_seconds(self._attempt, self._random)
        self._attempt += 1
        self._connected_at = self.come_back_at = None
        return delay
