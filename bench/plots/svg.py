"""A little SVG: texts, lines and boxes, in colours that follow the page's scheme. Pure."""

from collections.abc import Iterable, Sequence
from html import escape

import attrs

_STYLE = """
  svg { --paper: #ffffff; --ink: #1f2430; --dim: #6b7280; --rule: #e2e5ea; font: 12px system-ui, sans-serif; }
  @media (prefers-color-scheme: dark) {
    svg { --paper: #0f131a; --ink: #e6e9ef; --dim: #98a2b3; --rule: #2a313c; }
  }
  .paper { fill: var(--paper); } text { fill: var(--ink); } .dim { fill: var(--dim); }
  .rule { stroke: var(--rule); } .whisker { stroke: var(--ink); stroke-opacity: .65; }
  .title { font-size: 14px; font-weight: 600; } .bold { font-weight: 600; }
"""


@attrs.define
class Drawing:
    """Collects elements; `text` returns the document. Coordinates are pixels from the top left."""

    width: float
    height: float
    description: str
    _elements: list[str] = attrs.field(factory=list, init=False)

    def text(self, x: float, y: float, content: str, *, anchor: str = "start", style: str = "") -> None:
        """Write at a base line; `anchor` is start, middle or end."""
        self._add(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}">{escape(content)}</text>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, *, style: str = "rule") -> None:
        """Draw a thin line."""
        self._add(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>')

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Fill a box."""
        self._add(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" '
            f'rx="2" fill="{colour}"/>'
        )

    def path(self, points: Sequence[tuple[float, float]], colour: str, *, width: float = 2) -> None:
        """Draw a line through points."""
        steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._add(
            f'<polyline points="{steps}" fill="none" stroke="{colour}" stroke-width="{width}" '
            'stroke-linejoin="round"/>'
        )

    def dot(self, x: float, y: float, colour: str) -> None:
        """Mark a point."""
        self._add(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')

    def document(self) -> str:
        """Return the whole as text."""
        return "\n".join(
            (
                (
                    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:.0f} {self.height:.0f}" '
                    f'width="{self.width:.0f}" height="{self.height:.0f}" role="img">'
                ),
                f"<title>{escape(self.description)}</title>",
                f"<style>{_STYLE}</style>",
                f'<rect class="paper" width="{self.width:.0f}" height="{self.height:.0f}"/>',
                *self._elements,
                "</svg>\n",
            )
        )

    def _add(self, element: str) -> None:
        self._elements.append(element)


def short(value: float) -> str:
    """Return a number as an axis shows it."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def highest(values: Iterable[float]) -> float:
    """Return the highest, or 1 if there is none above 0."""
    return max((value for value in values if value > 0), default=1.0)
