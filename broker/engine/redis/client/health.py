"""The health of one server: its troubles, and when they began."""

import attrs
import trio

from broker.errors import EngineTrouble, EngineUnavailableError
from broker.log import Log
from broker.model import WallClock

REFUSALS_SECONDS = 10.0
"""Minimum time between two log lines about refused requests."""


@attrs.frozen
class _Trouble:
    reason: str
    kind: EngineTrouble
    since: float
    """Unix seconds."""


class Health:
    """The present trouble of each part of a server's use; logged once when it begins and once when it ends."""

    def __init__(self, server: str, wall_clock: WallClock, log: Log) -> None:
        self._server = server
        self._wall_clock = wall_clock
        self._log = log
        self._troubles: dict[str, _Trouble] = {}  # by part
        self._log_refusals_after = 0.0  # trio time

    @property
    def server(self) -> str:
        """The server's name."""
        return self._server

    def note_trouble(self, part: str, reason: str, kind: EngineTrouble) -> None:
        """Note that a part does not work; the time of the first note stays until `note_recovery`."""
        before = self._troubles.get(part)
        if before is None:
            self._log.error("redis trouble", server=self._server, part=part, reason=reason)
        since = self._wall_clock() if before is None else before.since
        self._troubles[part] = _Trouble(reason, kind, since)

    def note_refusal(self, reason: str) -> None:
        """Log why a request was refused, as its client is not sent that; at most one line per REFUSALS_SECONDS."""
        now = trio.current_time()
        if now >= self._log_refusals_after:
            self._log_refusals_after = now + REFUSALS_SECONDS
            self._log.warning("redis refuses", server=self._server, reason=reason)

    def note_recovery(self, part: str) -> None:
        """Note that a part works as it should."""
        if self._troubles.pop(part, None) is not None:
            self._log.info("redis is well again", server=self._server, part=part)

    def trouble(self) -> EngineUnavailableError | None:
        """Return all troubles as one error, with the kind and time of the oldest; None if there are none."""
        if not self._troubles:
            return None
        first = min(self._troubles.values(), key=lambda trouble: trouble.since)
        reasons = "; ".join(f"{part}: {trouble.reason}" for part, trouble in self._troubles.items())
        return EngineUnavailableError(
            f"redis {self._server}: {reasons}", trouble=first.kind, since=first.since
        )
