"""`greenroom webhooks`: the queues of webhooks, and the entries that were put aside."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import quote

import click
import httpx2
import msgspec

from broker.cli.calls import call_server
from broker.cli.lazy import TextCommand
from broker.cli.printing import json_line
from broker.cli.remote import find_api_key, url_option, usage_error
from broker.client.errors import NotSentError
from broker.client.http_client import open_client

TIMEOUT_SECONDS = 60.0
PAGE_ENTRIES = 1000
MOST_IDS = 500
"""Ids in a request, whose body is bounded by http.body_bytes."""


class _Queue(msgspec.Struct, frozen=True):
    name: str
    waiting: int
    oldest_time: int | None
    aside: int
    dropped: int


class _Queues(msgspec.Struct, frozen=True):
    webhooks: list[_Queue]


class _Page(msgspec.Struct, frozen=True):
    entries: list[msgspec.Raw]
    cursor: str | None


class _Repeated(msgspec.Struct, frozen=True):
    repeated: int


_own_url_option = click.option("--url", "own_url", help="The server (GREENROOM_URL).")


@click.group("webhooks", invoke_without_command=True)
@url_option
@click.pass_context
def command(context: click.Context, url: str) -> None:
    """List the webhooks of a server with the lengths of their queues, as JSON lines.

    `waiting` are entries to be delivered, the oldest of them for `oldest_seconds`, and `aside` those that nobody took in
    time. Needs the API key (GREENROOM_API_KEY). Exit status: 1 when the server cannot be reached, or refuses the key.
    """
    context.obj = url
    if context.invoked_subcommand is not None:
        return
    with _client(url) as client:
        listed = call_server(client, "GET", "/api/webhooks", _Queues)
    for queue in listed.webhooks:
        age = None if queue.oldest_time is None else max(0, int(time.time() - queue.oldest_time / 1000))
        click.echo(
            json_line(
                {
                    "webhook": queue.name,
                    "waiting": queue.waiting,
                    "oldest_seconds": age,
                    "aside": queue.aside,
                    "dropped": queue.dropped,
                }
            )
        )


@command.command("aside", cls=TextCommand)
@click.argument("name")
@_own_url_option
@click.pass_obj
def aside(url: str, name: str, own_url: str | None) -> None:
    """Print the entries of the webhook NAME that were put aside, the oldest first, as JSON lines."""
    with _client(own_url or url) as client:
        cursor: str | None = ""
        while cursor is not None:
            params = {"limit": str(PAGE_ENTRIES), "cursor": cursor}
            page = call_server(
                client, "GET", f"/api/webhooks/{quote(name, safe='')}/aside", _Page, params=params
            )
            for entry in page.entries:
                click.echo(json_line(entry))
            cursor = page.cursor


@command.command("repeat", cls=TextCommand)
@click.argument("name")
@click.argument("ids", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="All entries that were put aside.")
@_own_url_option
@click.pass_obj
def repeat(url: str, name: str, ids: Sequence[str], own_url: str | None, *, is_all: bool) -> None:
    """Deliver entries of the webhook NAME again that were put aside: those with the given IDS, or --all.

    Prints how many; ids that are not aside are passed over.
    """
    if is_all == bool(ids):
        raise click.UsageError("give ids of entries, or --all")
    with _client(own_url or url) as client:
        path = f"/api/webhooks/{quote(name, safe='')}/repeat"
        bodies = [{"all": True}] if is_all else [{"ids": part} for part in _parts(ids)]
        count = sum(call_server(client, "POST", path, _Repeated, body=body).repeated for body in bodies)
    click.echo(str(count))


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for begin in range(0, len(ids), MOST_IDS):
        yield ids[begin : begin + MOST_IDS]


@contextmanager
def _client(url: str) -> Iterator[httpx2.Client]:
    key = find_api_key()
    try:
        client = open_client(httpx2.Client, url, key, TIMEOUT_SECONDS)
    except NotSentError as error:
        raise usage_error(error) from None
    with client:
        yield client
