"""A program's own log, held to the contract of `Log`: none of its errors gets into what logs."""

from collections.abc import Callable

import attrs

from broker.log.base import Log


@attrs.define
class _Losses:
    lines: int = 0


@attrs.frozen
class SafeLog:
    """Passes each line on to `log`; one over which it raises is lost, and counted."""

    log: Log
    _losses: _Losses = attrs.field(factory=_Losses)

    def debug(self, event: str, **fields: object) -> None:
        """See Log."""
        self._write(self.log.debug, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """See Log."""
        self._write(self.log.info, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """See Log."""
        self._write(self.log.warning, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """See Log."""
        self._write(self.log.error, event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """See Log."""
        self._write(self.log.exception, event, fields)

    def lines_dropped(self) -> int:
        """See Log."""
        try:
            return self.log.lines_dropped() + self._losses.lines
        except Exception:  # noqa: BLE001  # the program's
            return self._losses.lines

    def bind(self, **fields: object) -> Log:
        """See Log."""
        try:
            return attrs.evolve(self, log=self.log.bind(**fields))
        except Exception:  # noqa: BLE001  # the program's
            return self

    def _write(self, write: Callable[..., None], event: str, fields: dict[str, object]) -> None:
        try:
            write(event, **fields)
        except Exception:  # noqa: BLE001  # the program's
            self._losses.lines += 1
