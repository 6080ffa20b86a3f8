"""Durations as options: `90`, `1.5s`, `15m`, `1h30m`, `7d`."""

import math
import re
from typing import Any

import click

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_NUMBER = re.compile(r"\d+(?:\.\d*)?(?:e\d+)?|\.\d+")


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in new versions of click only
    """A duration above 0 and at least `least_seconds`; a bare number is seconds."""

    name = "duration"

    def __init__(self, *, least_seconds: float = 0.0) -> None:
        self._least_seconds = least_seconds

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        seconds = parse_duration(value) if isinstance(value, str) else float(value)
        if seconds is None:
            self.fail(
                f"{value!r} is no duration: seconds, or numbers with units, as 90s, 15m, 1h30m, 7d",
                param,
                ctx,
            )
        if not max(self._least_seconds, 0.0) <= seconds < math.inf or not seconds:
            bound = f"at least {self._least_seconds:g} s" if self._least_seconds else "above 0"
            self.fail(f"{value!r}: a duration must be {bound}", param, ctx)
        return seconds


def parse_duration(text: str) -> float | None:
    """Return the seconds of a duration, None if the text is none. Units are not repeated, and the longest is first."""
    text = text.strip().lower()
    if _NUMBER.fullmatch(text):
        return float(text)
    if not text.isascii() or not _WHOLE.fullmatch(text):
        return None
    parts = _PART.findall(text)
    sizes = [_UNITS[unit] for _, unit in parts]
    if sizes != sorted(set(sizes), reverse=True):
        return None
    return math.fsum(float(number) * size for (number, _), size in zip(parts, sizes, strict=True))
