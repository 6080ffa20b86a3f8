"""`greenroom tail`: the messages of a room as they come."""

import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial

import click
import trio

from broker.cli.lazy import TextCommand
from broker.cli.lines import line_of
from broker.cli.printing import json_line, print_line
from broker.cli.remote import find_token, run_remote, token_option, url_option
from broker.client import Client, Room, State, connect
from broker.client.connecting import Token
from broker.client.effects import Message


@click.command("tail", cls=TextCommand)
@click.argument("room")
@click.option(
    "-n", "--lines", "count", default=0, metavar="N", help="First print the last N events that are held."
)
@click.option(
    "--tags",
    multiple=True,
    metavar="NAME=VALUE",
    help="Only events with this tag; repeated: with one of the values of each name.",
)
@url_option
@token_option
def command(room: str, count: int, tags: tuple[str, ...], url: str, token: str | None) -> None:
    """Print the messages of ROOM until interrupted: lines on a terminal, JSON lines otherwise.

    Reconnects after a lost connection, and prints the messages that were missed. Exit status: 1 when the server ends
    the client for good.
    """
    show = line_of if sys.stdout.isatty() else json_line
    wanted = _parse_tags(tags)
    made = find_token(token)  # fails at once over a bad configuration
    join = partial(Client.join, room=room, last=count or None, tags=wanted)
    run_remote(partial(_tail, join, url, made if token else _make_token, show))


def _parse_tags(tags: Iterable[str]) -> dict[str, list[str]]:
    wanted: dict[str, list[str]] = {}
    for tag in tags:
        name, separator, value = tag.partition("=")
        if not name or not separator or not value:
            raise click.BadParameter(f"{tag}: NAME=VALUE", param_hint="--tags")
        wanted.setdefault(name, []).append(value)
    return wanted


async def _make_token() -> str:
    await trio.lowlevel.checkpoint()
    return find_token(None)


async def _tail(
    join: Callable[[Client], AbstractAsyncContextManager[Room]],
    url: str,
    token: Token,
    show: Callable[[Message], str],
) -> int:
    async with connect(url, token=token, on_state=_print_state) as client, join(client) as joined:
        await anext(joined)
        async for message in joined:
            if message["type"] != "joined":
                await print_line(show(message))
            elif not message["recovered"]:
                click.echo("greenroom: what was missed is no longer held", err=True)
    raise AssertionError("a room goes on until an error")


def _print_state(state: State) -> None:
    if state.kind == "waiting":
        click.echo(f"greenroom: {state.cause}; again in {state.retry_seconds:.1f} s", err=True)
