"""The calls of the HTTP API: what is sent, and how the answer is read. Pure; shared by both publishers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode
from uuid import uuid4

import attrs

from broker.client.errors import NotSentError
from broker.client.http_client import check_header_value
from broker.client.results import (
    MessagePage,
    OnlineUser,
    Outcome,
    Published,
    Revoked,
    RoomDetails,
    RoomPage,
    UserPage,
)
from broker.client.retries import read_answer, read_count, read_outcomes
from broker.client.wire import encode_message
from broker.errors import Refused
from broker.model import Position, check_room_name

Message = Mapping[str, Any]
T = TypeVar("T")


@attrs.frozen
class Call(Generic[T]):
    """One request. It may be sent again: with the same key, or because it has the same effect."""

    method: str
    path: str
    read: Callable[[bytes], T]
    """Returns the answer, or raises ClientError."""
    body: bytes | None = None
    idempotency_key: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers besides those of every request."""
        content = {} if self.body is None else {"Content-Type": "application/json"}
        return (
            content if self.idempotency_key is None else {**content, "Idempotency-Key": self.idempotency_key}
        )


@attrs.frozen
class PublishOptions:
    """How a message is delivered, and for whom it is; see `Publisher.publish`."""

    ephemeral: bool = False
    tags: Mapping[str, str] | None = None
    exclude_user: str | None = None
    exclude_connection: str | None = None

    @property
    def query(self) -> str:
        """The options as a query string.

        :raises NotSentError: if one has no form in it.
        """
        for name in ("exclude_user", "exclude_connection"):
            value = getattr(self, name)
            if value is not None:
                _check_unicode(name, value)
        return _query(
            {
                "ephemeral": "1" if self.ephemeral else None,
                "tags": encode_message(self.tags).decode() if self.tags else None,
                "exclude_user": self.exclude_user,
                "exclude_connection": self.exclude_connection,
            }
        )


def publish(
    room: str, message: Message, idempotency_key: str | None, options: PublishOptions
) -> Call[Published]:
    """See `Publisher.publish`."""
    return _post(f"{_room_path(room)}/messages", message, idempotency_key, _reader(Published), options)


def broadcast(
    rooms: Sequence[str], message: Message, idempotency_key: str | None, options: PublishOptions
) -> Call[list[Outcome]]:
    """See `Publisher.broadcast`."""
    if isinstance(rooms, str | bytes | bytearray) or not isinstance(rooms, Iterable):
        raise NotSentError(f"rooms: a list of names, not {type(rooms).__name__}")
    names = list(rooms)
    for index, room in enumerate(names):
        _check_text(f"rooms[{index}]", room)
    body = {"rooms": names, "message": message}
    return _post("/api/broadcast", body, idempotency_key, read_outcomes, options)


def rooms(prefix: str, limit: int, cursor: str | None) -> Call[RoomPage]:
    """See `Publisher.rooms`."""
    return Call("GET", "/api/rooms" + _page_query(prefix, limit, cursor), _reader(RoomPage))


def room(name: str) -> Call[RoomDetails]:
    """See `Publisher.room`."""
    return Call("GET", _room_path(name), _reader(RoomDetails))


def history(name: str, since: Position | None, limit: int | None, *, reverse: bool) -> Call[MessagePage]:
    """See `Publisher.history`."""
    place = None if since is None else _as_position(since)
    given = {
        "since": None if place is None else place.offset,
        "epoch": None if place is None else place.epoch,
        "limit": None if limit is None else _as_integer("limit", limit),
        "reverse": "true" if reverse else None,
    }
    return Call("GET", f"{_room_path(name)}/messages{_query(given)}", _reader(MessagePage))


def delete_history(name: str) -> Call[int]:
    """See `Publisher.delete_history`."""
    return Call("DELETE", f"{_room_path(name)}/messages", read_count("deleted"))


def online_users(prefix: str, limit: int, cursor: str | None) -> Call[UserPage]:
    """See `Publisher.online_users`."""
    return Call("GET", "/api/users" + _page_query(prefix, limit, cursor), _reader(UserPage))


def user(user_id: str) -> Call[OnlineUser]:
    """See `Publisher.user`."""
    return Call("GET", f"/api/users/{_segment('user_id', user_id)}", _reader(OnlineUser))


def remove(name: str, user_id: str) -> Call[int]:
    """See `Publisher.remove`."""
    path = f"{_room_path(name)}/users/{_segment('user_id', user_id)}"
    return Call("DELETE", path, read_count("removed"))


def disconnect(user_id: str) -> Call[int]:
    """See `Publisher.disconnect`."""
    return Call("DELETE", f"/api/users/{_segment('user_id', user_id)}", read_count("disconnected"))


def revoke_token(jti: str, expires_at: float | None) -> Call[Revoked]:
    """See `Publisher.revoke_token`."""
    _check_unicode("jti", jti)
    return _revoke({"jti": jti, "expires_at": _as_time("expires_at", expires_at)})


def revoke_user(user_id: str, issued_before: float | None, expires_at: float | None) -> Call[Revoked]:
    """See `Publisher.revoke_user`."""
    _check_unicode("user_id", user_id)
    times = {
        "issued_before": _as_time("issued_before", issued_before),
        "expires_at": _as_time("expires_at", expires_at),
    }
    return _revoke({"user_id": user_id, **times})


def _revoke(given: Mapping[str, str | float | None]) -> Call[Revoked]:
    body = encode_message({name: value for name, value in given.items() if value is not None})
    return Call("POST", "/api/revocations", _reader(Revoked), body)


def _post(
    path: str, body: Message, key: str | None, read: Callable[[bytes], T], options: PublishOptions
) -> Call[T]:
    if key is not None:
        check_header_value("idempotency_key", key)
    return Call("POST", path + options.query, read, encode_message(body), uuid4().hex if key is None else key)


def _reader(kind: type[T]) -> Callable[[bytes], T]:
    return lambda body: read_answer(body, kind)


def _room_path(name: str) -> str:
    _check_text("room", name)
    try:
        check_room_name(name)
    except Refused as refused:
        raise NotSentError(refused.message) from None
    return f"/api/rooms/{quote(name, safe='')}"


def _segment(name: str, value: str) -> str:
    """Return a segment of a path; a dot alone would be taken out of it (RFC 3986 section 5.2.4)."""
    _check_text(name, value)
    if not value or "/" in value or value in {".", ".."}:
        raise NotSentError(f"{name}: the id of a user, without '/'")
    return _quoted(name, value)


def _quoted(name: str, value: str) -> str:
    _check_unicode(name, value)
    return quote(value, safe="")


def _page_query(prefix: str, limit: int, cursor: str | None) -> str:
    _check_text("prefix", prefix)
    if cursor is not None:
        _check_text("cursor", cursor)
    return _query({"prefix": prefix or None, "limit": _as_integer("limit", limit), "cursor": cursor})


def _query(given: Mapping[str, str | int | None]) -> str:
    there = {name: value for name, value in given.items() if value is not None}
    try:
        return f"?{urlencode(there)}" if there else ""
    except UnicodeEncodeError:
        raise NotSentError(f"{', '.join(there)}: must be Unicode text") from None


def _check_text(name: str, value: object) -> None:
    """Check the type of an argument.

    :raises NotSentError: if it is no text.
    """
    if not isinstance(value, str):
        raise NotSentError(f"{name}: a text, not {type(value).__name__}")


def _check_unicode(name: str, value: object) -> None:
    """Check that an argument is text that has a form in UTF-8.

    :raises NotSentError: if it has none.
    """
    _check_text(name, value)
    try:
        str(value).encode()
    except UnicodeEncodeError:
        raise NotSentError(f"{name}: must be Unicode text") from None


def _as_time(name: str, value: object) -> float | None:
    """Return Unix seconds.

    :raises NotSentError: if it is no finite number, such as a datetime.
    """
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not -inf < value < inf:
        raise NotSentError(f"{name}: Unix seconds, not {type(value).__name__}")
    return value


def _as_integer(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise NotSentError(f"{name}: a whole number, not {type(value).__name__}")
    return value


def _as_position(value: object) -> Position:
    if not isinstance(value, Position):
        raise NotSentError(f"since: a Position, not {type(value).__name__}")
    return value
