"""The log of the server: events with fields, one line each."""

import logging
from typing import TextIO

from broker.config.settings import LogSettings
from broker.log.base import Log
from broker.log.stdlib import StdlibLog
from broker.log.structured import structured_log

__all__ = ["Log", "open_log", "stdlib_log"]


def open_log(settings: LogSettings, stream: TextIO) -> Log:
    """Return a log that writes a line for each event to `stream`, with times in UTC (ISO 8601).

    Lines are for people when the stream is a terminal and JSON otherwise, unless `settings.format` says
    which. An exception is described in the same line; its traceback is written at level debug only. Lines are written at
    once, which blocks as `stream` does: a `BackgroundText` never does.
    """
    human = settings.format == "human" or (settings.format == "auto" and stream.isatty())
    return structured_log(level=settings.level, human=human, stream=stream)


def stdlib_log() -> Log:
    """Return a log that writes to `logging.getLogger("greenroom")`, whose handlers run in the calling thread."""
    return StdlibLog(logging.getLogger("greenroom"))
