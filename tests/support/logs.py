"""A log that a test can look at."""

from typing import NamedTuple

import attrs

REFUSALS = ("refused", "bad request")


class LogLine(NamedTuple):
    """One line."""

    level: str
    event: str
    fields: dict[str, object]


@attrs.define
class RecordingLog:
    """Keeps its lines; those of refusals apart."""

    lines: list[LogLine] = attrs.Factory(list)
    refused: list[LogLine] = attrs.Factory(list)

    @property
    def events(self) -> list[str]:
        """The events of all lines but those of refusals, in order."""
        return [line.event for line in self.lines]

    def debug(self, event: str, **fields: object) -> None:
        self._note("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        self._note("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._note("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._note("error", event, fields)

    def exception(self, event: str, **fields: object) -> None:
        self._note("error", event, fields)

    def lines_dropped(self) -> int:
        return 0

    def bind(self, **_fields: object) -> "RecordingLog":
        return self

    def _note(self, level: str, event: str, fields: dict[str, object]) -> None:
        lines = self.refused if event in REFUSALS else self.lines
        lines.append(LogLine(level, event, fields))
