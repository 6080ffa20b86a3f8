"""`greenroom rooms`: one room of a running server, with the state, timers and turns of its code."""

import sys
import time
from collections.abc import Iterator
from urllib.parse import quote

import click
import httpx2
import msgspec

from broker.cli.calls import call_server
from broker.cli.lazy import TextCommand
from broker.cli.lines import harmless
from broker.cli.printing import json_line
from broker.cli.remote import find_api_key, url_option, usage_error
from broker.client.errors import NotSentError
from broker.client.http_client import open_client

TIMEOUT_SECONDS = 10.0


class _Room(msgspec.Struct):
    room: str
    room_size: int
    offset: int
    epoch: str
    user_count: int
    has_code: bool = False


class _State(msgspec.Struct):
    value: msgspec.Raw
    bytes: int
    version: int
    stored_by: str | None


class _Timer(msgspec.Struct):
    name: str
    due_in_ms: int


class _Turns(msgspec.Struct):
    kind: str
    done: int
    refused: int
    failed: int
    unavailable: int
    total_ms: float
    longest_ms: float


class _Failure(msgspec.Struct):
    time: int
    kind: str
    error: str
    text: str


class _Code(msgspec.Struct):
    class_name: str
    state_version: int
    node: str | None
    owner: str | None
    state: _State
    timers: list[_Timer]
    turns: list[_Turns]
    last_failure: _Failure | None


@click.group("rooms")
def command() -> None:
    """Show one room of a running server."""


@command.command("show", cls=TextCommand)
@click.argument("room")
@click.option("--json", "is_json", is_flag=True, help="Print the answers of the server; so it is in a pipe.")
@url_option
def show(room: str, *, is_json: bool, url: str) -> None:
    """Show ROOM: its members and position and, if it has code of its own, its state, timers, turns and last failure.

    Nothing is started, and no turn is run. Needs the API key (GREENROOM_API_KEY). Exit status: 1 when the server cannot
    be reached, or refuses.
    """
    key = find_api_key()
    try:
        client = open_client(httpx2.Client, url, key, TIMEOUT_SECONDS)
    except NotSentError as error:
        raise usage_error(error) from None
    path = f"/api/rooms/{quote(room, safe='')}"
    with client:
        raw_room = call_server(client, "GET", path, msgspec.Raw, params={"by": "count"})
        found = msgspec.json.decode(raw_room, type=_Room)
        raw_code = call_server(client, "GET", f"{path}/code", msgspec.Raw) if found.has_code else None
    if is_json or not sys.stdout.isatty():
        click.echo(json_line({"room": raw_room, "code": raw_code}))
        return
    for line in _room_lines(found):
        click.echo(line)
    if raw_code is not None:
        for line in _code_lines(msgspec.json.decode(raw_code, type=_Code), time.time()):
            click.echo(line)


def _room_lines(room: _Room) -> Iterator[str]:
    yield harmless(room.room)
    yield f"  members      {room.room_size} connections of {room.user_count} users"
    yield f"  position     offset {room.offset}, epoch {room.epoch}"


def _code_lines(code: _Code, now: float) -> Iterator[str]:
    """Return what is known of the code as text; `now` is Unix seconds."""
    where = "not running" if code.owner is None else f"owned by node {code.owner}"
    where = where if code.node is None else f"runs on node {code.node}"
    yield f"  class        {harmless(code.class_name)}, state version {code.state_version}, {where}"
    state = code.state
    by = "not stored yet" if state.stored_by is None else f"version {state.version} of {state.stored_by}"
    yield f"  state        {state.bytes} bytes, {harmless(by)}"
    for line in msgspec.json.format(bytes(state.value), indent=2).decode().splitlines():
        yield f"    {harmless(line)}"
    for timer in code.timers:
        seconds = timer.due_in_ms / 1000
        due = f"in {seconds:.1f} s" if seconds >= 0 else f"overdue for {-seconds:.1f} s"
        yield f"  timer        {harmless(timer.name)}: {due}"
    for turns in code.turns:
        outcomes = {name: getattr(turns, name) for name in ("done", "refused", "failed", "unavailable")}
        number = sum(outcomes.values())
        told = ", ".join(f"{count} {name}" for name, count in outcomes.items() if count)
        mean_ms = turns.total_ms / number
        yield f"  {turns.kind + ' turns':<12} {told}; {mean_ms:.1f} ms each, the longest {turns.longest_ms:.1f} ms"
    failure = code.last_failure
    if failure is not None:
        age = now - failure.time / 1000
        text = harmless(f"{failure.error}: {failure.text}")
        yield f"  last failure {age:.0f} s ago, in a turn of {failure.kind}: {text}"
