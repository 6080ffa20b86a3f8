"""A room's messages as lines for a person."""

import time
from collections.abc import Mapping

import click
import msgspec

from broker.client.effects import Message

_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta")
_PLACE = frozenset({"room", "offset", "epoch", "time"})


def line_of(message: Message) -> str:
    """Return a message as one line, with colours and the local time.

    Control characters are replaced, as they could control the terminal.
    """
    moment = time.strftime("%H:%M:%S", time.localtime(message.get("time", time.time() * 1000) / 1000))
    return f"{click.style(moment, dim=True)} {_what(message)}"


def _what(message: Message) -> str:
    user = _user(str(message.get("user_id", "")))
    match message["type"]:
        case "chat":
            what = f"{user} {harmless(message['text'])}{' […]' if message.get('truncated') else ''}{_tags(message)}"
        case "user_joined":
            what = click.style("→ ", fg="green") + f"{user} " + _dim(f"joined ({message['room_size']})")
        case "user_left":
            what = click.style("← ", fg="red") + f"{user} " + _dim(f"left ({message['room_size']})")
        case "presence_changed":
            joined, left = len(message["joined"]), len(message["left"])
            what = _dim(f"{joined} joined, {left} left ({message['room_size']})")
        case "presence_update":
            shown = {name: message[name] for name in ("info", "state") if name in message}
            what = f"{user} {_dim('shows')} {_json(shown)}"
        case "gap":
            what = click.style(f"events {message['from']} to {message['to']} are missing", fg="red")
        case "event":
            what = f"{user} {_kind(message['event'])} {_json(message['data'])}{_tags(message)}"
        case kind:
            rest = {key: value for key, value in message.items() if key not in _PLACE | {"type"}}
            what = f"{_kind(kind)} {_json(rest)}"
    return what


def _tags(message: Message) -> str:
    tags: Mapping[str, str] = message.get("tags", {})
    return "".join(" " + _dim(harmless(f"{name}={value}")) for name, value in tags.items())


def _kind(name: str) -> str:
    return click.style(harmless(name), fg="yellow")


def _user(user_id: str) -> str:
    colour = _COLOURS[sum(user_id.encode(errors="replace")) % len(_COLOURS)]
    return click.style(harmless(user_id), fg=colour, bold=True)


def _dim(text: str) -> str:
    return click.style(text, dim=True)


def _json(value: object) -> str:
    return harmless(msgspec.json.encode(value).decode())


def harmless(text: str) -> str:
    """Return a text without control characters, which could control the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
