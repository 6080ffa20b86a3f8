"""What is wrong with one server, and since when."""

from datetime import UTC, datetime

from broker.log import Log
from broker.model import WallClock


class Health:
    """Remembers the trouble of each part of the way to a server; says so once in the log when it begins and ends."""

    def __init__(self, server: str, wall_clock: WallClock, log: Log) -> None:
        self._server = server
        self._wall_clock = wall_clock
        self._log = log
        self._troubles: dict[str, tuple[str, float]] = {}  # by part: why, and since when (Unix seconds)

    def note_trouble(self, part: str, reason: str) -> None:
        """Note that a part does not work; the time of the first note stays until it works."""
        _, since = self._troubles.get(part, ("", self._wall_clock()))
        if part not in self._troubles:
            self._log.error("redis trouble", server=self._server, part=part, reason=reason)
        self._troubles[part] = (reason, since)

    def note_well(self, part: str) -> None:
        """Note that a part works."""
        if self._troubles.pop(part, None) is not None:
            self._log.info("redis is well again", server=self._server, part=part)

    def reason(self) -> str | None:
        """Return everything that is wrong, with its time, None if all is well."""
        troubles = [
            f"{part}: {reason} (since {_time(since)})" for part, (reason, since) in self._troubles.items()
        ]
        return f"redis {self._server}: {'; '.join(troubles)}" if troubles else None


def _time(unix_seconds: float) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
