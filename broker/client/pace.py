"""The pace of a room's requests after a temporary refusal. Pure."""

import attrs

PATIENCE_SECONDS = 240.0
"""How long a room's requests wait for a server that refuses all of them."""


@attrs.define
class Pace:
    """Holds a room's requests back after a temporary refusal, and then lets them go one by one until none waits.

    So they keep their order, and a busy server gets fewer. Times are those of the core.
    """

    not_before: float = 0.0
    """When the next request may be sent."""
    is_one_by_one: bool = False
    _refused_since: float | None = None
    """When the present series of refusals began; an answer ends it."""

    def wait(self, now: float, after_seconds: float) -> None:
        """Send nothing for some seconds."""
        self.not_before = max(self.not_before, now + after_seconds)

    def refused(self, now: float, after_seconds: float) -> bool:
        """Note a refusal with its delay; returns whether to wait, within PATIENCE_SECONDS."""
        self.wait(now, after_seconds)
        self.is_one_by_one = True
        if self._refused_since is None:
            self._refused_since = now
        if self.not_before - self._refused_since <= PATIENCE_SECONDS:
            return True
        self._refused_since = None
        return False

    def answered(self) -> None:
        """Note that the server answers again."""
        self._refused_since = None

    def emptied(self) -> None:
        """Note that no request waits."""
        self.is_one_by_one = False
