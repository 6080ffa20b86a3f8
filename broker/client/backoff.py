"""Delays before a client reconnects. Pure."""

from random import Random

import attrs

FIRST_SECONDS = 1.0
MAX_SECONDS = 30.0
SHORT_SECONDS = 5.0
"""Bound of a delay while the connection has been lost for less than four times as long."""
STABLE_SECONDS = 10.0
"""How long a connection must have lasted for delays to begin at the first again."""

_OUT_OF_TIME = ("token has expired", "token is not valid yet")


def backoff_seconds(attempt: int, random: Random, down_seconds: float) -> float:
    """Return the delay before the attempt after `attempt` (0, 1, …) failed ones.

    Exponential with full jitter: anything between nothing and the cap, so that clients that lost the same
    server do not reconnect together. It is at most SHORT_SECONDS or a quarter of `down_seconds`, for which there has been
    no connection, so that a client returns soon after its server.
    """
    cap = min(MAX_SECONDS, FIRST_SECONDS * 2.0 ** min(attempt, 32), max(SHORT_SECONDS, down_seconds / 4))
    return random.uniform(0.0, cap)


def may_reconnect(code: int) -> bool:
    """Whether a connection closed with `code` should be made again: not after 40xx, nor after 1000."""
    return code != 1000 and not 4000 <= code < 4100


def is_out_of_time(code: int, reason: str) -> bool:
    """Whether a refused token has expired or is not valid yet, so that another one, or the same later, may be accepted."""
    return code == 4001 and reason.startswith(_OUT_OF_TIME)


@attrs.define
class Reconnects:
    """Decides when to reconnect. Times are in seconds of a monotonic clock that stands still while the machine sleeps."""

    _random: Random
    _attempt: int = 0
    _connected_at: float | None = None
    _down_since: float = 0.0
    reconnect_at: float | None = None
    """When the server has asked this client to reconnect; None if it has not, on this connection."""

    def connected(self, now: float) -> None:
        """Note that a connection was made."""
        self._connected_at = now
        self.reconnect_at = None

    def asked_to_reconnect(self, now: float, after_seconds: float) -> None:
        """Note that the server has asked for a reconnect after some seconds."""
        self.reconnect_at = now + after_seconds

    def hurry(self) -> None:
        """Begin at the first delay again."""
        self._attempt = 0

    def lost(self, now: float, code: int) -> float | None:
        """Return the delay before the next attempt; None if there is to be none."""
        return self.failed(now) if may_reconnect(code) else None

    def failed(self, now: float) -> float:
        """Return the delay before the next attempt."""
        if self._connected_at is not None and now - self._connected_at >= STABLE_SECONDS:
            self._attempt = 0
        if not self._attempt:
            self._down_since = now
        delay = 0.0
        if self.reconnect_at is not None:
            # The server has spread its clients itself; repeated failures add a backoff.
            delay = max(0.0, self.reconnect_at - now)
        if self.reconnect_at is None or self._attempt:
            delay += backoff_seconds(self._attempt, self._random, now - self._down_since)
        self._attempt += 1
        self._connected_at = self.reconnect_at = None
        return delay
