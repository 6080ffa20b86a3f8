"""How long a client waits before it connects again. Pure."""

from random import Random

FIRST_SECONDS = 1.0
MAX_SECONDS = 30.0


def backoff_seconds(attempt: int, random: Random) -> float:
    """Return the delay before the attempt after `attempt` (0, 1, …) failed ones.

    Exponential with full jitter: anything between nothing and the cap, so that clients that lost the same
    server do not come back together.
    """
    return random.uniform(0.0, min(MAX_SECONDS, FIRST_SECONDS * 2.0 ** min(attempt, 32)))


def may_reconnect(code: int) -> bool:
    """Whether a connection closed with `code` should be made again: not after 40xx, nor after 1000."""
    return code != 1000 and not 4000 <= code < 4100
