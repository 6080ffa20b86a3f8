"""The log of a server process: one line for each event, as JSON or for people."""

import contextlib
import logging
import threading
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TextIO

import attrs
import msgspec

from broker.log.base import Log
from broker.log.fields import describe_error, exception_of, format_fields, printable_lines, redact
from broker.log.stdlib import LOSS_EVENT
from broker.output.text import BackgroundText


def structured_log(*, level: str, human: bool, stream: TextIO) -> Log:
    """Return a log that writes lines for people, or JSON, to `stream`; below `level` a call does nothing."""
    if isinstance(stream, BackgroundText):
        stream.line_of_loss = partial(_line_of_loss, human=human)
    return StructuredLog(_Lines(stream, human=human, level=level))


def set_level(log: Log, level: str) -> None:
    """Change the least level that a log of `structured_log`, and all that were bound to it, write; no other log has one."""
    if isinstance(log, StructuredLog):
        log.lines.set_level(level)


@attrs.frozen
class StructuredLog:
    """Adds its own fields to each line; all that are bound to one another share their lines' writer."""

    lines: "_Lines"
    fields: Mapping[str, object] = attrs.field(factory=dict)

    def debug(self, event: str, **fields: object) -> None:
        """See Log."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """See Log."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """See Log."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """See Log."""
        self._write(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """See Log."""
        self._write(logging.ERROR, event, {"exc_info": True} | fields)

    def lines_dropped(self) -> int:
        """See Log."""
        return self.lines.count_dropped()

    def bind(self, **fields: object) -> Log:
        """See Log."""
        return attrs.evolve(self, fields={**self.fields, **fields})

    def _write(self, level: int, event: str, fields: Mapping[str, object]) -> None:
        if level >= self.lines.least_level:
            self.lines.write(level, event, {**self.fields, **fields})


class _Lines:
    """Writes whole lines of at least a level, from any thread.

    A failing write raises nothing: a log must not end the work that it reports on.
    """

    def __init__(self, stream: TextIO, *, human: bool, level: str) -> None:
        self._stream = stream
        self._format = _human_line if human else _json_line
        self._lock = threading.Lock()
        self.set_level(level)

    def set_level(self, level: str) -> None:
        """Write this level, and those above."""
        self.least_level = logging.getLevelNamesMapping()[level.upper()]

    def count_dropped(self) -> int:
        """Return how many lines were dropped because their reader was blocked."""
        return self._stream.lines_dropped if isinstance(self._stream, BackgroundText) else 0

    def write(self, level: int, event: str, fields: dict[str, object]) -> None:
        """Write a line, whatever its level."""
        error = exception_of(fields.pop("exc_info", None))
        if error is not None:
            if self.least_level == logging.DEBUG:
                fields["traceback"] = "".join(traceback.format_exception(error))
            fields["error"] = describe_error(error)
        # These three belong to the log, and come first.
        own = {"time": _now(), "level": logging.getLevelName(level).lower(), "event": event}
        line = self._format(redact({**own, **fields, **own}))
        # A closed stream raises ValueError, a reader that is gone OSError.
        with contextlib.suppress(OSError, ValueError), self._lock:
            self._stream.write(f"{line}\n")
            self._stream.flush()


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _line_of_loss(lines: int, *, human: bool) -> str:
    fields: dict[str, object] = {"time": _now(), "level": "warning", "event": LOSS_EVENT, "lines": lines}
    return f"{(_human_line if human else _json_line)(fields)}\n"


def _json_line(fields: dict[str, object]) -> str:
    return msgspec.json.encode(fields).decode()


def _human_line(fields: dict[str, object]) -> str:
    trace = fields.pop("traceback", None)
    head = f"{fields.pop('time')} {fields.pop('level'):<7} {fields.pop('event')}"
    line = f"{head}  {format_fields(fields)}".rstrip()
    return line if trace is None else f"{line}\n{printable_lines(str(trace).rstrip())}"
