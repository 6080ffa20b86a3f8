"""Tables on a terminal; the only place that knows rich."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from broker.cli.rates import Row

Show: TypeAlias = Callable[[str, Sequence[Row]], None]

LINES_BESIDE_ROWS = 6
"""The heading, the names of the columns, a rule, and the count of rows not shown."""


def print_table(heading: str, rows: Sequence[Row]) -> None:
    """Print all rows."""
    Console().print(make_table(heading, rows, most_rows=len(rows)))


@contextmanager
def open_screen() -> Iterator[Show]:
    """Use the whole terminal for the block, and restore it after; gives a function that shows rows."""
    console = Console()
    with Live(console=console, screen=True, auto_refresh=False) as live:

        def show(heading: str, rows: Sequence[Row]) -> None:
            most_rows = max(1, console.size.height - LINES_BESIDE_ROWS)
            live.update(make_table(heading, rows, most_rows=most_rows), refresh=True)

        yield show


def make_table(heading: str, rows: Sequence[Row], *, most_rows: int) -> Table:
    """Return a table of the first rows."""
    left_out = len(rows) - most_rows
    table = Table(
        title=Text(heading, style="bold"),
        title_justify="left",
        caption=f"and {left_out:,} more" if left_out > 0 else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        expand=True,
        pad_edge=False,
    )
    table.add_column("room", ratio=1, no_wrap=True, overflow="ellipsis")
    for name in ("members", "events/s", "offset"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows[:most_rows]:
        is_busy = bool(row.per_second)
        rate = "-" if row.per_second is None else f"{row.per_second:,.1f}"
        # Text, so that a room's name is not read as markup.
        cells = (
            Text(row.room),
            f"{row.room_size:,}",
            Text(rate, style="green" if is_busy else "dim"),
            f"{row.offset:,}",
        )
        table.add_row(*cells)
    return table
