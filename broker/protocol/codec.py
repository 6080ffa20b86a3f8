"""Notices as JSON text, in the shapes of the native protocol."""

from collections.abc import Callable
from typing import Any

import msgspec

from broker import notices
from broker.model import Event, Position
from broker.notices import Notice, RequestId

_encode = msgspec.json.encode


def encode_event(room: str, epoch: str, event: Event) -> bytes:
    """Return an event as it is delivered: its content, with its place added."""
    # Content is an object with at least a type, so a comma can follow its last field.
    head = event.content[:-1]
    if event.offset is None:
        return b'%b,"room":%b,"time":%d}' % (head, _encode(room), event.time_ms)
    return b'%b,"room":%b,"offset":%d,"epoch":%b,"time":%d}' % (
        head,
        _encode(room),
        event.offset,
        _encode(epoch),
        event.time_ms,
    )


def encode_notice(notice: Notice) -> bytes:
    """Return one notice as one JSON object."""
    if isinstance(notice, notices.Said):
        return encode_event(notice.room, notice.epoch, notice.event)
    return _encode(_SHAPES[type(notice)](notice))


def _reply(request_id: RequestId, fields: dict[str, object]) -> dict[str, object]:
    if request_id is not None:
        fields["id"] = request_id
    return fields


def _raw_events(room: str, position: Position, events: tuple[Event, ...]) -> list[msgspec.Raw]:
    return [msgspec.Raw(encode_event(room, position.epoch, event)) for event in events]


def _user_joined(n: notices.UserJoined) -> dict[str, object]:
    return {"type": "user_joined", "room": n.room, "user_id": n.user_id, "room_size": n.room_size}


def _user_left(n: notices.UserLeft) -> dict[str, object]:
    return {"type": "user_left", "room": n.room, "user_id": n.user_id, "room_size": n.room_size}


def _presence_changed(n: notices.PresenceChanged) -> dict[str, object]:
    return {
        "type": "presence_changed",
        "room": n.room,
        "joined": n.joined,
        "left": n.left,
        "room_size": n.room_size,
    }


def _joined(n: notices.Joined) -> dict[str, object]:
    fields = {
        "type": "joined",
        "room": n.room,
        "room_size": n.room_size,
        "offset": n.position.offset,
        "epoch": n.position.epoch,
        "recovered": n.is_recovered,
        "messages": _raw_events(n.room, n.position, n.events),
    }
    return _reply(n.request_id, fields)


def _left(n: notices.Left) -> dict[str, object]:
    return _reply(n.request_id, {"type": "left", "room": n.room})


def _acknowledged(n: notices.Acknowledged) -> dict[str, object]:
    fields: dict[str, object] = {"type": "ack", "room": n.room}
    if n.position is not None:
        fields["offset"] = n.position.offset
        fields["epoch"] = n.position.epoch
    return _reply(n.request_id, fields)


def _presence_list(n: notices.PresenceList) -> dict[str, object]:
    users = [{"user_id": user_id, "connections": connections} for user_id, connections in n.users]
    return _reply(
        n.request_id, {"type": "presence", "room": n.room, "room_size": n.room_size, "users": users}
    )


def _history_page(n: notices.HistoryPage) -> dict[str, object]:
    fields = {
        "type": "history",
        "room": n.room,
        "messages": _raw_events(n.room, n.position, n.events),
        "offset": n.position.offset,
        "epoch": n.position.epoch,
    }
    return _reply(n.request_id, fields)


def _gap(n: notices.Gap) -> dict[str, object]:
    return {"type": "gap", "room": n.room, "from": n.first, "to": n.last}


def _failed(n: notices.Failed) -> dict[str, object]:
    fields: dict[str, object] = {
        "type": "error",
        "code": n.refused.code.value,
        "message": n.refused.message,
    }
    if n.refused.retry_after_ms is not None:
        fields["retry_after_ms"] = n.refused.retry_after_ms
    return _reply(n.request_id, fields)


def _pong(n: notices.Pong) -> dict[str, object]:
    return _reply(n.request_id, {"type": "pong"})


def _refreshed(n: notices.Refreshed) -> dict[str, object]:
    expires_at = None if n.expires_at is None else int(n.expires_at)
    return _reply(n.request_id, {"type": "refreshed", "expires_at": expires_at})


def _reconnect(n: notices.Reconnect) -> dict[str, object]:
    return {"type": "reconnect", "after_ms": n.after_ms}


_SHAPES: dict[type, Callable[[Any], dict[str, object]]] = {
    notices.UserJoined: _user_joined,
    notices.UserLeft: _user_left,
    notices.PresenceChanged: _presence_changed,
    notices.Joined: _joined,
    notices.Left: _left,
    notices.Acknowledged: _acknowledged,
    notices.PresenceList: _presence_list,
    notices.HistoryPage: _history_page,
    notices.Gap: _gap,
    notices.Failed: _failed,
    notices.Pong: _pong,
    notices.Refreshed: _refreshed,
    notices.Reconnect: _reconnect,
}
