"""`greenroom top`: the rooms of a running server, as a live table."""

import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

import attrs
import click
import httpx2
import msgspec

from broker.cli.calls import UnreachableError, call_server, name_of
from broker.cli.durations import Duration
from broker.cli.lazy import TextCommand
from broker.cli.printing import json_line
from broker.cli.rates import Order, Rates, RoomSummary, Row, sort_rows
from broker.cli.remote import find_api_key, url_option, usage_error
from broker.client.errors import NotSentError
from broker.client.http_client import open_client
from broker.clocks import boot_clock

PAGE_ROOMS = 1000
MOST_ROOMS = 10_000
"""Rooms shown at most; the first by name."""
TIMEOUT_SECONDS = 5.0


class _Page(msgspec.Struct, frozen=True):
    rooms: list[RoomSummary]
    cursor: str | None


@click.command("top", cls=TextCommand)
@click.option("--once", is_flag=True, help="Print one table and end; so it is where there is no terminal.")
@click.option(
    "--interval",
    "interval_seconds",
    type=Duration(least_seconds=0.1),
    default="1s",
    show_default=True,
    metavar="DURATION",
    help="How often it asks the server.",
)
@click.option("--prefix", default="", metavar="TEXT", help="Only rooms whose names begin so.")
@click.option(
    "--sort", "order", type=click.Choice(["rate", "members", "name"]), default="rate", show_default=True
)
@url_option
def command(*, once: bool, interval_seconds: float, prefix: str, order: Order, url: str) -> None:
    """Show the rooms of a server: members, events per second, last offset.

    Needs the API key (GREENROOM_API_KEY). Without a terminal it prints JSON lines, once. Exit status: 1 when the
    server cannot be reached at the start, or refuses the key.
    """
    key = find_api_key()
    try:
        client = open_client(httpx2.Client, url, key, TIMEOUT_SECONDS)
    except NotSentError as error:
        raise usage_error(error) from None
    with client:
        watch = Watch(client, prefix, order)
        watch.refresh()
        is_terminal = sys.stdout.isatty()
        if is_terminal and not once:
            _show_live(watch, interval_seconds)
            return
        time.sleep(interval_seconds)
        watch.refresh()
    if is_terminal:
        from broker.cli.screen import print_table  # noqa: PLC0415  # rich takes a tenth of a second to import

        print_table(watch.heading(), watch.rows)
        return
    for row in watch.rows:
        click.echo(json_line(attrs.asdict(row)))


@attrs.define
class Watch:
    """The rooms of a server, with their rates."""

    _client: httpx2.Client
    _prefix: str
    _order: Order
    _rates: Rates = attrs.Factory(Rates)
    rows: list[Row] = attrs.Factory(list)

    def refresh(self) -> None:
        """Read the rooms from the server.

        :raises UnreachableError: if the server does not answer, or refuses.
        """
        rooms = list(self._rooms())
        self.rows = sort_rows(self._rates.measure(rooms, boot_clock()), self._order)

    def heading(self) -> str:
        """Return the heading: the server and the totals."""
        members = _count(sum(row.room_size for row in self.rows), "member")
        rate = sum(row.per_second or 0.0 for row in self.rows)
        return f"{self._server()} · {_count(len(self.rows), 'room')} · {members} · {rate:,.1f} events/s"

    def _server(self) -> str:
        return name_of(self._client)

    def _rooms(self) -> Iterator[RoomSummary]:
        cursor: str | None = ""
        for _ in range(MOST_ROOMS // PAGE_ROOMS):
            page = self._page(cursor or "")
            yield from page.rooms
            cursor = page.cursor
            if cursor is None:
                return

    def _page(self, cursor: str) -> _Page:
        params = {"prefix": self._prefix, "limit": str(PAGE_ROOMS), "cursor": cursor}
        return call_server(self._client, "GET", "/api/rooms", _Page, params=params)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _show_live(watch: Watch, interval_seconds: float) -> None:
    from broker.cli.screen import open_screen  # noqa: PLC0415  # rich takes a tenth of a second to import

    # As for SIGINT: the screen is restored on the way out.
    signal.signal(signal.SIGTERM, _exit_by_signal)
    try:
        with open_screen() as show:
            while True:
                try:
                    watch.refresh()
                    show(watch.heading(), watch.rows)
                except UnreachableError as error:
                    show(f"{error}; last seen:", watch.rows)
                time.sleep(interval_seconds)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _exit_by_signal(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
