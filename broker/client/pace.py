"""How fast a room's requests go to a server that has refused one for now. Pure."""

import attrs

PATIENCE_SECONDS = 240.0
"""How long a room's requests wait for a server that answers none of them."""


@attrs.define
class Pace:
    """Holds a room's requests back until the server wants them, and then sends one by one until none waits.

    So they keep their order, and a busy server is not pressed. Times are those of the core.
    """

    not_before: float = 0.0
    """When the server may be asked again."""
    is_one_by_one: bool = False
    _refused_since: float | None = None
    """When it refused first, of those refusals since which it has answered nothing."""

    def wait(self, now: float, after_seconds: float) -> None:
        """Ask nothing for some seconds."""
        self.not_before = max(self.not_before, now + after_seconds)

    def refused(self, now: float, after_seconds: float) -> bool:
        """Note that a request is to come again after some seconds; returns whether that is worth waiting for."""
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
