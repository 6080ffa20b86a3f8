"""The limit of an actor's restarts, and the backoff before each. Pure."""

from collections import deque

import attrs


@attrs.frozen
class RestartPolicy:
    """At most `intensity` restarts in any `period_seconds`; the next failure escalates.

    The terms are those of OTP's supervisors, but failures are counted for each actor apart. The first restart in a
    period is immediate, the second follows after `backoff_seconds`, and each further one after twice the delay before.
    """

    intensity: int = 5
    period_seconds: float = 10.0
    backoff_seconds: float = 0.05
    backoff_max_seconds: float = 2.0


class RestartCounter:
    """Counts one actor's failures against a policy."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._failures: deque[float] = deque()

    def next_delay(self, now: float) -> float | None:
        """Count a failure at `now` (seconds); return the delay before the restart, or None to escalate."""
        policy = self._policy
        while self._failures and self._failures[0] <= now - policy.period_seconds:
            self._failures.popleft()
        if len(self._failures) >= policy.intensity:
            return None
        self._failures.append(now)
        earlier = len(self._failures) - 1
        if earlier == 0:
            return 0.0
        # The exponent is capped: 2.0 ** 1024 would overflow.
        return float(min(policy.backoff_seconds * 2.0 ** min(earlier - 1, 64), policy.backoff_max_seconds))
