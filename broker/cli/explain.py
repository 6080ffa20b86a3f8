"""`greenroom explain`: what a user may do in a room and why, and where the user is connected."""

import sys
import time
from collections.abc import Iterator
from typing import TextIO

import click
import httpx2
import msgspec

from broker.cli.calls import call_server
from broker.cli.lazy import TextCommand
from broker.cli.printing import json_line
from broker.cli.remote import find_api_key, url_option, usage_error
from broker.client.errors import NotSentError
from broker.client.http_client import open_client

TIMEOUT_SECONDS = 10.0
MOST_TOKEN_CHARACTERS = 65_536


class _Permission(msgspec.Struct):
    action: str
    verdict: str
    ground: str
    by: str | None = None
    detail: str | None = None


class _Token(msgspec.Struct):
    is_accepted: bool
    issuer: str | None = None
    key: str | None = None
    detail: str | None = None


class _Connection(msgspec.Struct):
    connection: str
    transport: str
    since_ms: int
    is_in_room: bool
    queued_bytes: int
    last_write_ms: int | None
    permissions: list[_Permission]


class _Close(msgspec.Struct):
    time: int
    code: int
    reason: str
    by: str


class _Room(msgspec.Struct):
    room_size: int
    offset: int
    epoch: str


class _Node(msgspec.Struct):
    node: str
    worker: int
    room: _Room | None
    connections: list[_Connection]
    closes: list[_Close]


class _Explanation(msgspec.Struct):
    room: str
    user_id: str | None
    token: _Token | None
    permissions: list[_Permission]
    nodes: list[_Node]
    silent_nodes: int


@click.command("explain", cls=TextCommand)
@click.option("--user", metavar="ID", help="The user; not needed with a token.")
@click.option("--room", required=True, metavar="ROOM", help="The room.")
@click.option(
    "--token-file",
    type=click.File(),
    metavar="FILE",
    help="A file with a client token to explain; - is standard input.",
)
@click.option("--json", "is_json", is_flag=True, help="Print the answer of the server; so it is in a pipe.")
@url_option
def command(*, user: str | None, room: str, token_file: TextIO | None, is_json: bool, url: str) -> None:
    """Tell what a user, or the bearer of a token, may do in a room and why, and where the user is connected.

    Needs the API key (GREENROOM_API_KEY). Exit status: 1 when the server cannot be reached, or refuses.
    """
    if user is None and token_file is None:
        raise click.UsageError("give --user, or a token with --token-file")
    token = None if token_file is None else _read_token(token_file)
    key = find_api_key()
    params = {"room": room} | ({} if user is None else {"user": user})
    headers = None if token is None else {"Greenroom-Token": token}
    try:
        client = open_client(httpx2.Client, url, key, TIMEOUT_SECONDS)
    except NotSentError as error:
        raise usage_error(error) from None
    with client:
        raw = call_server(client, "GET", "/api/explain", msgspec.Raw, params=params, headers=headers)
    if is_json or not sys.stdout.isatty():
        click.echo(json_line(raw))
        return
    for line in _lines(msgspec.json.decode(raw, type=_Explanation), time.time()):
        click.echo(line)


def _read_token(file: TextIO) -> str:
    try:
        token = file.read(MOST_TOKEN_CHARACTERS).strip()
    except UnicodeDecodeError:
        token = ""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise click.UsageError("--token-file: holds no token")
    return token


def _lines(explanation: _Explanation, now: float) -> Iterator[str]:
    """Return the explanation as text; `now` is Unix seconds."""
    yield f"{explanation.user_id or '(nobody)'} in {explanation.room}"
    token = explanation.token
    if token is not None and token.is_accepted:
        yield f"token accepted: {token.issuer or 'auth'}, {token.key}"
    elif token is not None:
        yield f"token refused: {token.detail}"
    yield from _permission_lines(explanation.permissions, "  ")
    for node in explanation.nodes:
        where = "not in memory"
        if node.room is not None:
            where = f"{node.room.room_size} members, offset {node.room.offset}, epoch {node.room.epoch}"
        yield f"node {node.node}, worker {node.worker}: room {where}"
        for each in node.connections:
            last = "unknown" if each.last_write_ms is None else f"{each.last_write_ms / 1000:.1f} s ago"
            yield (
                f"  {each.connection} ({each.transport}, {now - each.since_ms / 1000:.0f} s): "
                f"{'in the room' if each.is_in_room else 'not in the room'}, "
                f"{each.queued_bytes} bytes queued, last write {last}"
            )
            yield from _permission_lines(each.permissions, "    ")
        for close in node.closes:
            age = now - close.time / 1000
            yield f"  closed {age:.0f} s ago by the {close.by}: {close.code} {close.reason}".rstrip()
    if explanation.silent_nodes:
        yield f"nodes that did not answer: {explanation.silent_nodes}"


def _permission_lines(permissions: list[_Permission], indent: str) -> Iterator[str]:
    for each in permissions:
        by = "" if each.by is None else f" {each.by}"
        detail = "" if each.detail is None else f": {each.detail}"
        yield f"{indent}{each.action:<10} {each.verdict:<8} {each.ground}{by}{detail}"
