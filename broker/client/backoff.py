"""Delays before a client reconnects. Pure."""

from random import Random

import attrs

FIRST_SECONDS = 1.0
MAX_SECONDS = 30.0
STABLE_SECONDS = 10.0
"""How long a connection must have lasted for delays to begin at the first again."""


def backoff_seconds(attempt: int, random: Random) -> float:
    """Return the delay before the attempt after `attempt` (0, 1, …) failed ones.

    Exponential with full jitter: anything between nothing and the cap, so that clients that lost the same
    server do not reconnect together.
    """
    return random.uniform(0.0, min(MAX_SECONDS, FIRST_SECONDS * 2.0 ** min(attempt, 32)))


def may_reconnect(code: int) -> bool:
    """Whether a connection closed with `code` should be made again: not after 40xx, nor after 1000."""
    return code != 1000 and not 4000 <= code < 4100


@attrs.define
class Reconnects:
    """Decides when to reconnect. Times are trio's, in seconds, which stand still while the machine sleeps."""

    _random: Random
    _attempt: int = 0
    _connected_at: float | None = None
    reconnect_at: float | None = None
    """When the server has asked this client to reconnect; None if it has not, on this connection."""

    def connected(self, now: float) -> None:
        """Note that a connection was made."""
        self._connected_at = now
        self.reconnect_at = None

    def asked_to_reconnect(self, now: float, after_seconds: float) -> None:
        """Note that the server has asked for a reconnect after some seconds."""
        self.reconnect_at = now + after_seconds

    def lost(self, now: float, code: int) -> float | None:
        """Return the delay before the next attempt; None if there is to be none."""
        if not may_reconnect(code):
            return None
        if self._connected_at is not None and now - self._connected_at >= STABLE_SECONDS:
            self._attempt = 0
        delay = 0.0
        if self.reconnect_at is not None:
            # The server has spread its clients itself; repeated failures add a backoff.
            delay = max(0.0, self.reconnect_at - now)
        if self.reconnect_at is None or self._attempt:
            delay += backoff_seconds(self._attempt, self._random)
        self._attempt += 1
        self._connected_at = self.reconnect_at = None
        return delay
