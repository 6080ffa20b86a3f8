"""A log on the standard library's logging, for programs that embed the broker."""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import attrs
import trio

from broker.log.base import Log
from broker.log.fields import exception_of, format_fields, redact
from broker.log.safe import SafeLog
from broker.output.background import FLUSH_SECONDS, BackgroundQueue

LOSS_EVENT = "log lines dropped"

RECORD_BYTES = 1000
"""Estimated size of a record without its message."""


@attrs.frozen
class StdlibLog:
    """Passes each event to `logger` and the program's handlers.

    The fields follow the event in the message and are in the record's `greenroom` attribute as well. With a `queue`,
    the handlers run in its thread; without one, in the caller's.
    """

    logger: logging.Logger
    fields: Mapping[str, object] = attrs.field(factory=dict)
    queue: BackgroundQueue[logging.LogRecord] | None = None

    def debug(self, event: str, **fields: object) -> None:
        """Log at level DEBUG."""
        self._hand_over(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Log at level INFO."""
        self._hand_over(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log at level WARNING."""
        self._hand_over(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Log at level ERROR."""
        self._hand_over(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """Log at level ERROR, with the exception being handled or `exc_info=error`."""
        self._hand_over(logging.ERROR, event, {"exc_info": True} | fields)

    def lines_dropped(self) -> int:
        """Return how many records were dropped because a handler was blocked."""
        return 0 if self.queue is None else self.queue.dropped

    def bind(self, **fields: object) -> "StdlibLog":
        """Return a log that adds `fields` to each of its lines."""
        return attrs.evolve(self, fields={**self.fields, **fields})

    def _hand_over(self, level: int, event: str, fields: dict[str, object]) -> None:
        if not self.logger.isEnabledFor(level):
            return
        error = exception_of(fields.pop("exc_info", None))
        harmless = redact({**self.fields, **fields})
        message = f"{event}  {format_fields(harmless)}".rstrip()
        extra = {"greenroom": harmless}
        # Two frames up is the caller of info(), error(), ...
        if self.queue is None:
            # A filter or handler that raises is the program's.
            with suppress(Exception):
                self.logger.log(level, "%s", message, exc_info=error, stacklevel=3, extra=extra)
            return
        file, line, function, _ = self.logger.findCaller(stacklevel=3)
        exc_info = None if error is None else (type(error), error, error.__traceback__)
        record = self.logger.makeRecord(
            self.logger.name, level, file, line, "%s", (message,), exc_info, function, extra
        )
        self.queue.put_nowait(record, len(message) + RECORD_BYTES)


@asynccontextmanager
async def open_stdlib_log() -> AsyncIterator[StdlibLog]:
    """Open a log on `logging.getLogger("greenroom")` whose handlers run in a thread of their own.

    So a blocked handler cannot block the event loop. Records are made by the caller, so time, place and thread are right.
    Leaving the block waits up to FLUSH_SECONDS for the queue.
    """
    logger = logging.getLogger("greenroom")
    queue = _queue_records(logger)
    try:
        yield StdlibLog(logger, queue=queue)
    finally:
        if queue.is_busy:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(queue.flush, FLUSH_SECONDS)


def _queue_records(logger: logging.Logger) -> BackgroundQueue[logging.LogRecord]:
    """Return a queue whose thread hands records to the handlers of `logger`."""

    def handle(record: logging.LogRecord) -> bool:
        # A handler that raises is the program's; logging itself reports most of them.
        with suppress(Exception):
            logger.handle(record)
        return True

    def make_loss(lines: int) -> logging.LogRecord:
        harmless = {"lines": lines}
        return logger.makeRecord(
            logger.name,
            logging.WARNING,
            __file__,
            0,
            "%s",
            (f"{LOSS_EVENT}  {format_fields(harmless)}",),
            None,
            extra={"greenroom": harmless},
        )

    return BackgroundQueue(handle, make_loss)


@asynccontextmanager
async def given_or_stdlib_log(log: Log | None) -> AsyncIterator[Log]:
    """Give the program's log, or one on its `logging` that cannot block the event loop."""
    if log is not None:
        yield log if isinstance(log, StdlibLog) else SafeLog(log)
        return
    async with open_stdlib_log() as own_log:
        yield own_log
