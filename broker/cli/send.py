"""`greenroom send`: send one text to a room."""

from functools import partial

import click

from broker.cli.lazy import TextCommand
from broker.cli.printing import print_line
from broker.cli.remote import find_token, run_remote, token_option, url_option
from broker.client import connect


@click.command("send", cls=TextCommand)
@click.argument("room")
@click.argument("text")
@url_option
@token_option
@click.option("--id", "message_id", metavar="ID", help="Stored once, however often it is sent with this id.")
def command(room: str, text: str, url: str, token: str | None, message_id: str | None) -> None:
    """Send TEXT to ROOM and wait until it is stored; prints the room and its offset.

    It does not show as a member, unless a token of a user is given. Exit status: 0 when it is stored, 1 when it was refused or the server cannot be reached.
    """
    run_remote(partial(_send, room, text, url, find_token(token, is_hidden=True), message_id))


async def _send(room: str, text: str, url: str, token: str, message_id: str | None) -> int:
    async with connect(url, token=token, reconnects=False) as client, client.join(room) as joined:
        position = await joined.chat(text, id=message_id)
    await print_line(f"{room} {position.offset}")
    return 0
