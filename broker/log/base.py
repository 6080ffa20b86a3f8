"""The interface of a log."""

from typing import Protocol


class Log(Protocol):
    """A log of events with fields.

    Never give it a token, a key or a message body; `broker.log.fields` removes those that slip through.
    No method raises, blocks or needs a checkpoint: a line that cannot be written is lost, and counted.
    The field names `time`, `level` and `event` belong to the log itself.
    """

    def debug(self, event: str, **fields: object) -> None:
        """Log a detail for debugging."""

    def info(self, event: str, **fields: object) -> None:
        """Log an ordinary event for operators."""

    def warning(self, event: str, **fields: object) -> None:
        """Log an event that may need an operator."""

    def error(self, event: str, **fields: object) -> None:
        """Log a failure."""

    def exception(self, event: str, **fields: object) -> None:
        """Log a failure with its exception: the one being handled, or `exc_info=error`."""

    def lines_dropped(self) -> int:
        """Return how many lines were dropped because their reader was blocked."""
        ...

    def bind(self, **fields: object) -> "Log":
        """Return a log that adds `fields` to each of its lines."""
        ...
