"""`greenroom send`: say one text in a room."""

from functools import partial

import click

from broker.cli.remote import find_token, run_remote, token_option, url_option
from broker.client.link import open_link


@click.command("send")
@click.argument("room")
@click.argument("text")
@url_option
@token_option
def command(room: str, text: str, url: str, token: str | None) -> None:
    """Say TEXT in ROOM and wait until it is stored; prints its offset.

    Exit status: 0 when it is stored, 1 when it was refused or the server cannot be reached.
    """
    run_remote(partial(_send, room, text, url, find_token(token)))


async def _send(room: str, text: str, url: str, token: str) -> int:
    async with open_link(url, room, token) as link:
        answer = await link.chat(text)
    if answer["type"] == "error":
        click.echo(f"greenroom: {answer['message']} ({answer['code']})", err=True)
        return 1
    click.echo(f"{answer['room']} {answer['offset']}")
    return 0
