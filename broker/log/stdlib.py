"""A log on the standard library's logging, for programs that embed the broker."""

import logging
from collections.abc import Mapping

import attrs

from broker.log.fields import exception_of, format_fields, redact


@attrs.frozen
class StdlibLog:
    """Hands each event to `logger`; the program's handlers decide what becomes of it.

    The fields follow the event in the message and are in the record's `greenroom` attribute as well.
    """

    logger: logging.Logger
    fields: Mapping[str, object] = attrs.field(factory=dict)

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

    def bind(self, **fields: object) -> "StdlibLog":
        """Return a log that adds `fields` to each of its lines."""
        return attrs.evolve(self, fields={**self.fields, **fields})

    def _hand_over(self, level: int, event: str, fields: dict[str, object]) -> None:
        if not self.logger.isEnabledFor(level):
            return
        error = exception_of(fields.pop("exc_info", None))
        harmless = redact({**self.fields, **fields})
        message = f"{event}  {format_fields(harmless)}".rstrip()
        # Two frames up is the caller of info(), error(), ...
        self.logger.log(level, "%s", message, exc_info=error, stacklevel=3, extra={"greenroom": harmless})
