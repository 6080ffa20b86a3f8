"""Encodes notices as JSON messages of the native protocol."""

from typing import TypedDict

import msgspec
from msgspec import UNSET, Raw, UnsetType

from broker import notices
from broker.model import Event, Position, Shown
from broker.notices import Notice, RoomEvent
from broker.protocol import messages
from broker.protocol.messages import AnyMessage

_encode = msgspec.json.encode


def encode_event(room: str, epoch: str, event: Event) -> bytes:
    """Return an event as JSON: its content, with room and position added."""
    # The content is an object with at least a type, so a comma can follow its last field.
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
    if type(notice) is RoomEvent:  # isinstance takes six times as long where it is another Struct
        return encode_event(notice.room, notice.epoch, notice.event)
    return _encode(_message(notice))


def _message(notice: Notice) -> AnyMessage:  # noqa: C901, PLR0911, PLR0912  # one case for each notice, checked by mypy
    match notice:
        # The most frequent ones first, without captures: each failed case and each capture costs as much as the message.
        case notices.Pong():
            return messages.Pong(notice.request_id)
        case notices.Acknowledged():
            position = notice.position
            if position is None:
                return messages.Acknowledged(notice.room, id=notice.request_id)
            return messages.Acknowledged(notice.room, position.offset, position.epoch, notice.request_id)
        case notices.Called(data, request_id):
            return messages.Result(Raw(data), request_id)
        case notices.UserJoined(room, user_id, room_size, shown):
            if shown is None:
                return messages.UserJoined(room, user_id, room_size)
            return messages.UserJoined(
                room, user_id, room_size, shown.connection, _raw(shown.info), _raw(shown.state)
            )
        case notices.UserLeft(room, user_id, room_size, shown):
            if shown is None:
                return messages.UserLeft(room, user_id, room_size)
            return messages.UserLeft(room, user_id, room_size, shown.connection, _raw(shown.info))
        case notices.PresenceUpdated(room, shown):
            return messages.PresenceUpdate(
                room, shown.user_id, shown.connection, _raw(shown.info), _raw(shown.state)
            )
        case notices.PresenceChanged(room, joined, left, room_size, updated, gone):
            updates = [connection_of(shown) for shown in updated]
            return messages.PresenceChanged(room, joined, left, room_size, gone or UNSET, updates or UNSET)
        case notices.Joined(
            room, room_size, position, is_recovered, events, request_id, connection, presence
        ):
            held = _raw_events(room, position, events)
            lists = Lists() if presence is None else lists_of(presence)
            return messages.Joined(
                *(room, room_size, position.offset, position.epoch, is_recovered, held, request_id),
                connection or UNSET,
                **lists,
            )
        case notices.Left(room, request_id):
            return messages.Left(room, request_id)
        case notices.PresenceList(room, room_size, request_id=request_id):
            return messages.PresenceList(room, room_size, id=request_id, **lists_of(notice))
        case notices.HistoryPage(room, events, position, request_id):
            held = _raw_events(room, position, events)
            return messages.HistoryPage(room, held, position.offset, position.epoch, request_id)
        case notices.Gap(room, first, last):
            return messages.Gap(room, first, last)
        case notices.Withheld(room, epoch, first, offset):
            return messages.Withheld(room, first, offset, epoch)
        case notices.Failed(refused, request_id):
            return messages.Error(refused.code.value, refused.message, refused.retry_after_ms, request_id)
        case notices.Refreshed(expires_at, expires_in_seconds, request_id):
            return messages.Refreshed(
                None if expires_at is None else int(expires_at),
                None if expires_in_seconds is None else int(expires_in_seconds * 1000),
                request_id,
            )
        case notices.Reconnect(after_ms):
            return messages.Reconnect(after_ms)
        case RoomEvent():
            raise AssertionError("an event is spliced, not encoded anew")


def _raw_events(
    room: str, position: Position, events: tuple[Event | notices.Withheld, ...]
) -> list[msgspec.Raw]:
    return [
        msgspec.Raw(
            encode_event(room, position.epoch, event) if isinstance(event, Event) else encode_notice(event)
        )
        for event in events
    ]


class Lists(TypedDict, total=False):
    """The fields with which a message lists the members of a room."""

    users: list[messages.User]
    connections: list[messages.Connection]
    user_count: int
    partial: bool


def lists_of(presence: notices.PresenceList) -> Lists:
    """Return the members as fields of a message, or of an answer of the HTTP API."""
    lists = Lists(partial=presence.is_partial)
    if presence.users is not None:
        infos = presence.infos
        lists["users"] = [messages.User(*user, _raw(infos.get(user[0]))) for user in presence.users]
    if presence.connections is not None:
        lists["connections"] = [connection_of(shown) for shown in presence.connections]
    if presence.user_count is not None:
        lists["user_count"] = presence.user_count
    return lists


def connection_of(shown: Shown) -> messages.Connection:
    """Return a connection as it is shown in messages."""
    return messages.Connection(shown.user_id, shown.connection or UNSET, _raw(shown.info), _raw(shown.state))


def _raw(json: bytes | None) -> Raw | UnsetType:
    return UNSET if json is None else Raw(json)
