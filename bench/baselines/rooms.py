"""The parts of the Python baselines that do not depend on FastAPI: the request for a room, and its messages."""

import json
import os
from urllib.parse import parse_qs, unquote, urlsplit

import attrs
import jwt

_PATH = "/ws/"

TELL_ALL = 100
"""In rooms with more members only the newcomer is told that it came, as Greenroom gathers such news there: a room
of N would take N * N / 2 messages to fill, and is not what is measured."""


@attrs.frozen
class Guest:
    """Someone whose token is good, and the room it asks for."""

    room: str
    user: str


def guest_of(target: str) -> Guest | None:
    """Return who comes with this request target, None if the token is not good or no room is named."""
    url = urlsplit(target)
    [token] = parse_qs(url.query).get("token", [""])
    user = user_of(token)
    return Guest(unquote(url.path.removeprefix(_PATH)), user) if user and url.path.startswith(_PATH) else None


def user_of(token: str) -> str | None:
    """Return whose token it is, None if it is not good."""
    try:
        claims = jwt.decode(token, os.environ["SECRET_KEY"], algorithms=["HS256"])
    except jwt.InvalidTokenError:
        return None
    return str(claims["sub"])


def joined(user: str, room_size: int) -> str:
    """Return what a room is told of a newcomer."""
    return json.dumps({"type": "user_joined", "user_id": user, "room_size": room_size})


def left(user: str) -> str:
    """Return what a room is told of one who has gone."""
    return json.dumps({"type": "user_left", "user_id": user})


def chat(user: str, text: str) -> str:
    """Return what a room is told of a chat."""
    return json.dumps({"type": "chat", "user_id": user, "text": text})


PONG = json.dumps({"type": "pong"})
