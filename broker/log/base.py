"""What a log can do."""

from typing import Protocol


class Log(Protocol):
    """Where a part of the program says what happened: an event, and fields that tell the particulars.

    Never give it a token, a key or a message body; `broker.log.fields` takes out what slips through.
    No method raises, blocks or needs a checkpoint: a line that cannot be written is lost, and counted.
    The field names `time`, `level` and `event` belong to the log itself.
    """

    def debug(self, event: str, **fields: object) -> None:
        """Say what only helps to find a fault."""

    def info(self, event: str, **fields: object) -> None:
        """Say what an operator wants to know."""

    def warning(self, event: str, **fields: object) -> None:
        """Say what may need an operator."""

    def error(self, event: str, **fields: object) -> None:
        """Say what failed."""

    def exception(self, event: str, **fields: object) -> None:
        """Say what failed and by which exception: the one being handled, or `exc_info=error`."""

    def lines_dropped(self) -> int:
        """Return how many lines were dropped because whatever takes them stood still."""
        ...

    def bind(self, **fields: object) -> "Log":
        """Return a log that adds `fields` to each of its lines."""
        ...
