"""What is wrong with one server, and since when."""

import attrs
import trio

from broker.errors import EngineTrouble, EngineUnavailableError
from broker.log import Log
from broker.model import WallClock

REFUSALS_SECONDS = 10.0
"""The least time between two log lines that tell of refused requests."""


@attrs.frozen
class _Trouble:
    reason: str
    kind: EngineTrouble
    since: float
    """Unix seconds."""


class Health:
    """Remembers the trouble of each part of the way to a server; says so once in the log when it begins and ends."""

    def __init__(self, server: str, wall_clock: WallClock, log: Log) -> None:
        self._server = server
        self._wall_clock = wall_clock
        self._log = log
        self._troubles: dict[str, _Trouble] = {}  # by part
        self._log_refusals_after = 0.0  # trio time

    @property
    def server(self) -> str:
        """What the server is called."""
        return self._server

    def note_trouble(self, part: str, reason: str, kind: EngineTrouble) -> None:
        """Note that a part does not work; the time of the first note stays until it works."""
        before = self._troubles.get(part)
        if before is None:
            self._log.error("redis trouble", server=self._server, part=part, reason=reason)
        since = self._wall_clock() if before is None else before.since
        self._troubles[part] = _Trouble(reason, kind, since)

    def note_refusal(self, reason: str) -> None:
        """Say in the log why a request was refused: its client is not told. One line for many at a time."""
        now = trio.current_time()
        if now >= self._log_refusals_after:
            self._log_refusals_after = now + REFUSALS_SECONDS
            self._log.warning("redis refuses", server=self._server, reason=reason)

    def note_well(self, part: str) -> None:
        """Note that a part works."""
        if self._troubles.pop(part, None) is not None:
            self._log.info("redis is well again", server=self._server, part=part)

    def trouble(self) -> EngineUnavailableError | None:
        """Return everything that is wrong, None if all is well."""
        if not self._troubles:
            return None
        first = min(self._troubles.values(), key=lambda trouble: trouble.since)
        reasons = "; ".join(f"{part}: {trouble.reason}" for part, trouble in self._troubles.items())
        return EngineUnavailableError(
            f"redis {self._server}: {reasons}", trouble=first.kind, since=first.since
        )
