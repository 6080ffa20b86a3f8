"""`greenroom tail`: the messages of a room as they come."""

import sys
from collections.abc import Callable
from functools import partial

import click
import trio

from broker.cli.lazy import TextCommand
from broker.cli.lines import line_of
from broker.cli.printing import json_line, print_line
from broker.cli.remote import find_token, run_remote, token_option, url_option
from broker.client import Position, Room, State, connect
from broker.client.connecting import Token
from broker.client.effects import Message


@click.command("tail", cls=TextCommand)
@click.argument("room")
@click.option(
    "-n", "--lines", "count", default=0, metavar="N", help="First print the last N events that are held."
)
@url_option
@token_option
def command(room: str, count: int, url: str, token: str | None) -> None:
    """Print the messages of ROOM until interrupted: lines on a terminal, JSON lines otherwise.

    Reconnects after a lost connection, and prints the messages that were missed. Exit status: 1 when the server ends
    the client for good.
    """
    show = line_of if sys.stdout.isatty() else json_line
    made = find_token(token)  # fails at once over a bad configuration
    run_remote(partial(_tail, room, count, url, made if token else _make_token, show))


async def _make_token() -> str:
    await trio.lowlevel.checkpoint()
    return find_token(None)


async def _tail(room: str, count: int, url: str, token: Token, show: Callable[[Message], str]) -> int:
    async with connect(url, token=token, on_state=_print_state) as client, client.join(room) as joined:
        first = await anext(joined)
        if count:
            for message in await _last_events(joined, count, Position(first["epoch"], first["offset"])):
                await print_line(show(message))
        async for message in joined:
            if message["type"] != "joined":
                await print_line(show(message))
            elif not message["recovered"]:
                click.echo("greenroom: what was missed is no longer held", err=True)
    raise AssertionError("a room goes on until an error")


async def _last_events(room: Room, count: int, until: Position) -> list[Message]:
    """Return the last events up to a position, the oldest first; later ones come as messages."""
    page = await room.history(limit=count, reverse=True)
    if page.position.epoch != until.epoch:
        return []
    return [message for message in reversed(page.messages) if _offset(message) <= until.offset]


def _offset(message: Message) -> int:
    """Return the offset of an event, or the end of a gap."""
    offset: int = message["to"] if message["type"] == "gap" else message["offset"]
    return offset


def _print_state(state: State) -> None:
    if state.kind == "waiting":
        click.echo(f"greenroom: {state.cause}; again in {state.retry_seconds:.1f} s", err=True)
