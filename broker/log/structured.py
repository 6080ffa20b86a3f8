"""A log on structlog: a chain of processors makes one line of each event, and one writer writes it."""

import contextlib
import logging
import traceback
from collections.abc import MutableMapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, TextIO, TypeAlias, cast

import msgspec
import structlog

from broker.log.base import Log
from broker.log.fields import describe_error, exception_of, format_fields, printable_lines, redact
from broker.log.stdlib import LOSS_EVENT
from broker.output.text import BackgroundText

Fields: TypeAlias = MutableMapping[str, Any]

_NUMBERS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def structured_log(*, level: str, human: bool, stream: TextIO) -> Log:
    """Return a log that writes lines for people, or JSON, to `stream`; below `level` a call does nothing.

    Every processor is given here, so structlog's global configuration is neither read nor changed.
    """
    if isinstance(stream, BackgroundText):
        stream.line_of_loss = partial(_line_of_loss, human=human)

    switch = _Level(level)

    class BoundLog(structlog.make_filtering_bound_logger(logging.DEBUG)):  # type: ignore[misc]
        filter_level = switch

        def lines_dropped(self) -> int:
            return stream.lines_dropped if isinstance(stream, BackgroundText) else 0

    log = structlog.wrap_logger(
        _LineWriter(stream),
        processors=[
            switch.drop_below,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            switch.fold_error,
            _redact,
            _human_line if human else _json_line,
        ],
        wrapper_class=BoundLog,
        context_class=dict,
        cache_logger_on_first_use=False,
    )
    return cast("Log", log.bind())


def set_level(log: Log, level: str) -> None:
    """Change the least level that a log of `structured_log`, and all that were bound to it, write; no other log has one."""
    switch = getattr(log, "filter_level", None)
    if isinstance(switch, _Level):
        switch.set(level)


class _Level:
    """The least level that is written."""

    def __init__(self, level: str) -> None:
        self.set(level)

    def set(self, level: str) -> None:
        """Write this level, and those above."""
        self._name = level
        self._number = logging.getLevelNamesMapping()[level.upper()]

    def drop_below(self, _logger: object, method: str, fields: Fields) -> Fields:
        """Drop a line below the level."""
        if _NUMBERS.get(method, logging.CRITICAL) < self._number:
            raise structlog.DropEvent
        return fields

    def fold_error(self, logger: object, method: str, fields: Fields) -> Fields:
        """Describe the exception; its traceback is written at level debug only."""
        fold = _fold_error_and_traceback if self._name == "debug" else _fold_error
        return fold(logger, method, fields)


class _LineWriter:
    """Writes whole lines, from any thread. It never raises: a log must not end the work that it reports on."""

    def __init__(self, stream: TextIO) -> None:
        self._lines = structlog.WriteLogger(stream)

    def write(self, line: str) -> None:
        # A closed stream raises ValueError, a reader that is gone OSError.
        with contextlib.suppress(OSError, ValueError):
            self._lines.msg(line)

    debug = info = warning = error = write


def _line_of_loss(lines: int, *, human: bool) -> str:
    time = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    fields: Fields = {"time": time, "level": "warning", "event": LOSS_EVENT, "lines": lines}
    return f"{(_human_line if human else _json_line)(None, 'warning', fields)}\n"


def _fold_error(_logger: object, _method: str, fields: Fields) -> Fields:
    error = exception_of(fields.pop("exc_info", None))
    if error is not None:
        fields["error"] = describe_error(error)
    return fields


def _fold_error_and_traceback(logger: object, method: str, fields: Fields) -> Fields:
    error = exception_of(fields.get("exc_info"))
    if error is not None:
        fields["traceback"] = "".join(traceback.format_exception(error))
    return _fold_error(logger, method, fields)


def _redact(_logger: object, _method: str, fields: Fields) -> Fields:
    """Put the fields of every line first, and redact all."""
    first = {name: fields.pop(name) for name in ("time", "level", "event")}
    return redact({**first, **fields})


def _json_line(_logger: object, _method: str, fields: Fields) -> str:
    return msgspec.json.encode(fields).decode()


def _human_line(_logger: object, _method: str, fields: Fields) -> str:
    trace = fields.pop("traceback", None)
    head = f"{fields.pop('time')} {fields.pop('level'):<7} {fields.pop('event')}"
    line = f"{head}  {format_fields(fields)}".rstrip()
    return line if trace is None else f"{line}\n{printable_lines(trace.rstrip())}"
