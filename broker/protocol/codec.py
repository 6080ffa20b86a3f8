"""Encodes notices as JSON messages of the native protocol."""

import msgspec

from broker import notices
from broker.model import Event, Position
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
    if isinstance(notice, RoomEvent):
        return encode_event(notice.room, notice.epoch, notice.event)
    return _encode(_message(notice))


def _message(notice: Notice) -> AnyMessage:  # noqa: C901, PLR0911, PLR0912  # one case for each notice, checked by mypy
    match notice:
        case notices.Acknowledged(room, position, request_id):
            if position is None:
                return messages.Acknowledged(room, id=request_id)
            return messages.Acknowledged(room, position.offset, position.epoch, request_id)
        case notices.UserJoined(room, user_id, room_size):
            return messages.UserJoined(room, user_id, room_size)
        case notices.UserLeft(room, user_id, room_size):
            return messages.UserLeft(room, user_id, room_size)
        case notices.PresenceChanged(room, joined, left, room_size):
            return messages.PresenceChanged(room, joined, left, room_size)
        case notices.Joined(room, room_size, position, is_recovered, events, request_id):
            held = _raw_events(room, position, events)
            return messages.Joined(
                room, room_size, position.offset, position.epoch, is_recovered, held, request_id
            )
        case notices.Left(room, request_id):
            return messages.Left(room, request_id)
        case notices.PresenceList(room, room_size, users, request_id):
            return messages.PresenceList(
                room, room_size, [messages.User(*user) for user in users], request_id
            )
        case notices.HistoryPage(room, events, position, request_id):
            held = _raw_events(room, position, events)
            return messages.HistoryPage(room, held, position.offset, position.epoch, request_id)
        case notices.Gap(room, first, last):
            return messages.Gap(room, first, last)
        case notices.Failed(refused, request_id):
            return messages.Error(refused.code.value, refused.message, refused.retry_after_ms, request_id)
        case notices.Pong(request_id):
            return messages.Pong(request_id)
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


def _raw_events(room: str, position: Position, events: tuple[Event, ...]) -> list[msgspec.Raw]:
    return [msgspec.Raw(encode_event(room, position.epoch, event)) for event in events]
