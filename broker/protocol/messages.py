"""The messages of the server: their fields in JSON, in the order in which they are written."""

from collections.abc import Sequence
from typing import TypeAlias, get_args

import msgspec
from msgspec import field

from broker.notices import RequestId


class Message(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """Any message of the server but an event, which is its content with room and position."""


class UserJoined(Message, frozen=True, tag="user_joined"):
    """A connection joined."""

    room: str
    user_id: str
    room_size: int


class UserLeft(Message, frozen=True, tag="user_left"):
    """A connection left."""

    room: str
    user_id: str
    room_size: int


class PresenceChanged(Message, frozen=True, tag="presence_changed"):
    """A batch of joins and leaves of a large room."""

    room: str
    joined: Sequence[str]
    left: Sequence[str]
    room_size: int


class Joined(Message, frozen=True, tag="joined"):
    """The answer to a join."""

    room: str
    room_size: int
    offset: int
    epoch: str
    recovered: bool
    messages: list[msgspec.Raw]
    id: RequestId = None


class Left(Message, frozen=True, tag="left"):
    """The recipient is no longer in the room."""

    room: str
    id: RequestId = None


class Acknowledged(Message, frozen=True, tag="ack"):
    """A chat or publish is stored; without a position if it is ephemeral."""

    room: str
    offset: int | None = None
    epoch: str | None = None
    id: RequestId = None


class User(msgspec.Struct, frozen=True):
    """A user in a room."""

    user_id: str
    connections: int


class PresenceList(Message, frozen=True, tag="presence"):
    """The users in a room."""

    room: str
    room_size: int
    users: list[User]
    id: RequestId = None


class HistoryPage(Message, frozen=True, tag="history"):
    """Some of a room's events."""

    room: str
    messages: list[msgspec.Raw]
    offset: int
    epoch: str
    id: RequestId = None


class Gap(Message, frozen=True, tag="gap"):
    """The range of events that were not written to this connection."""

    room: str
    first: int = field(name="from")
    last: int = field(name="to")


class Error(Message, frozen=True, tag="error"):
    """A request was refused."""

    code: str
    message: str
    retry_after_ms: int | None = None
    id: RequestId = None


class Pong(Message, frozen=True, tag="pong"):
    """The answer to a ping."""

    id: RequestId = None


class Refreshed(Message, frozen=True, tag="refreshed"):
    """A new token was accepted."""

    expires_at: int | None
    expires_in_ms: int | None = None
    id: RequestId = None


class Reconnect(Message, frozen=True, tag="reconnect"):
    """The server is draining."""

    after_ms: int


AnyMessage: TypeAlias = (
    UserJoined
    | UserLeft
    | PresenceChanged
    | Joined
    | Left
    | Acknowledged
    | PresenceList
    | HistoryPage
    | Gap
    | Error
    | Pong
    | Refreshed
    | Reconnect
)

MESSAGE_TYPES: tuple[str, ...] = tuple(str(message.__struct_config__.tag) for message in get_args(AnyMessage))
