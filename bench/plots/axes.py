"""A panel with a logarithmic axis on each side, and lines in it."""

import math
from collections.abc import Sequence

import attrs

from bench.plots.colours import colour_of, name_of
from bench.plots.svg import Drawing, short


@attrs.frozen
class Axis:
    """From the lowest to the highest of `ticks`, above 0; `labels` stand at them if they are not numbers."""

    ticks: Sequence[float]
    title: str
    labels: Sequence[str] | None = None

    def share(self, value: float) -> float:
        """Return how far along the axis a value is, 0 to 1; logarithmic."""
        low, high = math.log(self.ticks[0]), math.log(self.ticks[-1])
        return (math.log(max(value, self.ticks[0])) - low) / (high - low)


def decades(low: float, high: float) -> list[float]:
    """Return powers of ten around two values above 0, at least two of them."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


@attrs.frozen
class Panel:
    """Where the lines are: the inside of both axes, in pixels."""

    drawing: Drawing
    left: float
    top: float
    width: float
    height: float
    across: Axis
    up: Axis

    def draw_axes(self, title: str) -> None:
        """Draw what stands around the lines."""
        bottom, right = self.top + self.height, self.left + self.width
        self.drawing.text(self.left, self.top - 14, title, style="bold")
        for tick in self.up.ticks:
            y = self._at(self.across.ticks[0], tick)[1]
            self.drawing.line(self.left, y, right, y)
            self.drawing.text(self.left - 6, y + 4, short(tick), anchor="end", style="dim")
        labels = self.across.labels or [short(tick) for tick in self.across.ticks]
        for tick, label in zip(self.across.ticks, labels, strict=True):
            x = self._at(tick, self.up.ticks[0])[0]
            self.drawing.line(x, self.top, x, bottom)
            self.drawing.text(x, bottom + 16, label, anchor="middle", style="dim")
        self.drawing.text(
            self.left + self.width / 2, bottom + 34, self.across.title, anchor="middle", style="dim"
        )
        self.drawing.text(self.left - 44, self.top - 28, self.up.title, style="dim")

    def draw_line(self, server: str, points: Sequence[tuple[float, float]], *, dots: bool = False) -> None:
        """Draw what one server does."""
        places = [self._at(x, y) for x, y in points]
        self.drawing.path(places, colour_of(server), width=3 if server == "greenroom" else 1.8)
        for x, y in places if dots else ():
            self.drawing.dot(x, y, colour_of(server))

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return (
            self.left + self.across.share(x) * self.width,
            self.top + (1 - self.up.share(y)) * self.height,
        )


def draw_legend(drawing: Drawing, servers: Sequence[str], x: float, y: float) -> None:
    """Say which line is whose, in a row."""
    for server in servers:
        drawing.box(x, y - 9, 14, 9, colour_of(server))
        drawing.text(x + 20, y, name_of(server))
        x += 36 + 7.2 * len(name_of(server))
