"""Whether counts are what they were. Pure."""

from collections.abc import Iterator, Mapping
from enum import Enum, auto

import attrs
import msgspec

from bench.instructions.count import Surroundings

FOREIGN_TOLERANCE = 0.15
"""The tolerance where the packages differ from those of the figures, as their instructions count too."""


class Figures(msgspec.Struct, frozen=True):
    """The committed counts for one minor version of Python."""

    surroundings: Surroundings
    stages: dict[str, int]


class Verdict(Enum):
    """The result of a comparison."""

    SAME = auto()
    MORE = auto()
    FEWER = auto()
    CHANGED = auto()
    """Stages were added or removed: the figures are of another script."""


@attrs.frozen
class Stage:
    """One stage, as it was and as it is."""

    name: str
    before: int | None
    now: int | None
    verdict: Verdict

    def __str__(self) -> str:
        if self.before is None or self.now is None:
            return f"{self.name:<20} {self.before} -> {self.now}"
        change = self.now / self.before - 1
        return f"{self.name:<20} {self.before:>14,} -> {self.now:>14,}  {change:+.2%}  {self.verdict.name.lower()}"


def why_not_comparable(figures: Figures | None, here: Surroundings) -> str | None:
    """Return why counts made here say nothing beside the figures, None if they do."""
    if figures is None:
        return f"there are no figures for Python {here.python}"
    known = figures.surroundings
    if (known.python, known.build) != (here.python, here.build):
        return f"the figures are of another build of Python ({known.python}; here is {here.python})"
    return None


def tolerance_of(figures: Figures, here: Surroundings, tolerance: float) -> float:
    """Return what is forgiven: more where packages differ."""
    same = figures.surroundings.packages == here.packages
    return tolerance if same else max(tolerance, FOREIGN_TOLERANCE)


def compare(before: Mapping[str, int], now: Mapping[str, int], tolerance: float) -> Iterator[Stage]:
    """Yield every stage of either."""
    for name in sorted({*before, *now}):
        yield _compare_one(name, before.get(name), now.get(name), tolerance)


def _compare_one(name: str, before: int | None, now: int | None, tolerance: float) -> Stage:
    if before is None or now is None:
        return Stage(name, before, now, Verdict.CHANGED)
    if abs(now - before) <= tolerance * before:
        return Stage(name, before, now, Verdict.SAME)
    return Stage(name, before, now, Verdict.MORE if now > before else Verdict.FEWER)
