"""`greenroom tail`: a room as it goes on."""

import sys
import time
from collections.abc import Callable
from functools import partial
from random import Random

import click
import msgspec
import trio

from broker.cli.remote import find_token, run_remote, token_option, url_option
from broker.client.backoff import backoff_seconds, may_reconnect
from broker.client.link import LinkClosedError, Message, open_link
from broker.model import Position


@click.command("tail")
@click.argument("room")
@url_option
@token_option
def command(room: str, url: str, token: str | None) -> None:
    """Print what is said in ROOM, until interrupted: lines on a terminal, JSON lines otherwise.

    Connects again after a lost connection, and prints what was missed. Exit status: 1 when the server does
    not want this client back.
    """
    run_remote(partial(_tail, room, url, partial(find_token, token), as_lines=sys.stdout.isatty()))


async def _tail(room: str, url: str, find_token: Callable[[], str], *, as_lines: bool) -> int:
    random = Random()  # noqa: S311  # spreads reconnects, keeps no secret
    tail = _Tail(room, as_lines=as_lines)
    attempt = 0
    while True:
        try:
            async with open_link(url, room, find_token(), since=tail.position) as link:
                attempt = 0
                tail.take(link.joined)
                while True:
                    tail.take(await link.receive())
        except LinkClosedError as error:
            if not may_reconnect(error.code):
                raise
            delay_seconds = backoff_seconds(attempt, random)
            click.echo(f"greenroom: {error}; again in {delay_seconds:.1f} s", err=True)
            attempt += 1
            await trio.sleep(delay_seconds)


class _Tail:
    """Prints messages, and knows how far it got."""

    def __init__(self, room: str, *, as_lines: bool) -> None:
        self.position: Position | None = None
        self._room = room
        self._as_lines = as_lines

    def take(self, message: Message) -> None:
        """Print a message and remember its position."""
        if message["type"] == "joined":
            for missed in message["messages"]:
                self.take(missed)
            if self.position is not None and not message["recovered"]:
                click.echo("greenroom: what was missed is no longer held", err=True)
        else:
            click.echo(_line(message) if self._as_lines else msgspec.json.encode(message).decode())
        if message.get("room") == self._room and "offset" in message:
            self.position = Position(message["epoch"], message["offset"])


def _line(message: Message) -> str:
    moment = time.strftime("%H:%M:%S", time.localtime(message.get("time", time.time() * 1000) / 1000))
    # Control characters of others' making have no business in a terminal.
    user = click.style(_harmless(str(message.get("user_id", ""))), bold=True)
    kind = message["type"]
    match kind:
        case "chat":
            what = f"{user} {_harmless(message['text'])}"
        case "user_joined" | "user_left":
            what = click.style(f"{user} {kind.removeprefix('user_')} ({message['room_size']})", dim=True)
        case _:
            rest = {k: v for k, v in message.items() if k not in {"room", "offset", "epoch", "time"}}
            what = _harmless(msgspec.json.encode(rest).decode())
    return f"{click.style(moment, dim=True)} {what}"


def _harmless(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
