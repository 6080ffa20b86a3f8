"""Delays before a worker that has ended is started again. Pure."""

from random import Random

import attrs

FIRST_SECONDS = 0.5
MAX_SECONDS = 30.0
STABLE_SECONDS = 60.0
"""How long a worker must have run for the delays to begin anew."""


@attrs.define
class Restarts:
    """Counts the ends of one worker."""

    _random: Random
    _failures: int = 0

    def ended(self, ran_seconds: float) -> float:
        """Return the delay before the next start, in seconds, given how long it ran.

        The delay doubles up to a cap, and half of it is random, so that workers that failed together do not start
        together.
        """
        if ran_seconds >= STABLE_SECONDS:
            self._failures = 0
        cap = min(MAX_SECONDS, FIRST_SECONDS * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return cap * (0.5 + self._random.random() / 2)
