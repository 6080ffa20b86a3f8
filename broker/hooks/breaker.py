"""The circuit breaker of one hook: an application that is away is asked seldom, until it answers again. Pure."""

from enum import Enum, auto

import attrs

FAILURES_IN_A_ROW = 5
"""Failures after which an application counts as away."""
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 1.0, 30.0
"""Bounds of the time until an application that is away is asked again; it doubles with each failed probe."""


class Attempt(Enum):
    """A question that the breaker lets through; it is to be ended once, by one of its three methods."""

    ORDINARY = auto()
    PROBE = auto()
    """The one question while the application is away."""


@attrs.define
class Breaker:
    """Closed at first. All times are seconds of one clock that never goes back."""

    _failures: int = 0
    """Failures since the last success."""
    _probes: int = 0
    """Failed probes since it opened."""
    _probe_at: float | None = None
    """The time of the next probe; None while it is closed."""
    _is_probing: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the application counts as away."""
        return self._probe_at is not None

    def is_passable(self, now: float) -> bool:
        """Whether `begin` would let a question through."""
        return self._probe_at is None or (now >= self._probe_at and not self._is_probing)

    def seconds_left(self, now: float) -> float:
        """Return the seconds until the next probe."""
        return 0.0 if self._probe_at is None else max(0.0, self._probe_at - now)

    def begin(self, now: float) -> Attempt | None:
        """Let a question through, or return None: an open breaker lets one through after each pause."""
        if self._probe_at is None:
            return Attempt.ORDINARY
        if not self.is_passable(now):
            return None
        self._is_probing = True
        return Attempt.PROBE

    def succeed(self) -> bool:
        """Note an answer to whatever attempt; returns whether this closes the breaker."""
        was_open = self.is_open
        self._failures, self._probes, self._probe_at, self._is_probing = 0, 0, None, False
        return was_open

    def fail(self, attempt: Attempt, now: float) -> bool:
        """Note a failure; returns whether this opens the breaker."""
        if attempt is Attempt.PROBE and self._is_probing:
            self._is_probing = False
            self._probes += 1
            self._probe_at = now + self._pause()
            return False
        self._failures += 1
        if self.is_open or self._failures < FAILURES_IN_A_ROW:
            return False
        self._probes, self._probe_at = 0, now + self._pause()
        return True

    def abandon(self, attempt: Attempt) -> None:
        """Note that nobody waits for the answer any more, so that it says nothing; another probe may begin."""
        if attempt is Attempt.PROBE:
            self._is_probing = False

    def _pause(self) -> float:
        # The exponent is bounded, as an application may be away for weeks.
        return min(LAST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(self._probes, 16))
