"""The messages of the server: their fields in JSON, in the order in which they are written."""

from collections.abc import Sequence
from typing import Annotated, TypeAlias, get_args

import msgspec
from msgspec import Meta, field

from broker.protocol.fields import (
    Epoch,
    EventJson,
    Id,
    Milliseconds,
    Offset,
    RoomName,
    RoomSize,
    UserId,
)

PROTOCOL_NAME = "greenroom.v1"
"""The subprotocol of WebSockets (RFC 6455 section 1.9)."""


class Message(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """Any message of the server but an event, which is its content with room and position."""


class UserJoined(Message, frozen=True, tag="user_joined"):
    """A connection joined."""

    room: RoomName
    user_id: UserId
    room_size: RoomSize


class UserLeft(Message, frozen=True, tag="user_left"):
    """A connection left."""

    room: RoomName
    user_id: UserId
    room_size: RoomSize


class PresenceChanged(Message, frozen=True, tag="presence_changed"):
    """A batch of joins and leaves of a large room."""

    room: RoomName
    joined: Annotated[Sequence[UserId], Meta(description="A user id for each connection that joined.")]
    left: Annotated[Sequence[UserId], Meta(description="A user id for each connection that left.")]
    room_size: RoomSize


class Joined(Message, frozen=True, tag="joined"):
    """The answer to a join."""

    room: RoomName
    room_size: RoomSize
    offset: Offset
    epoch: Epoch
    recovered: Annotated[
        bool,
        Meta(
            description="Whether every event after `since` comes: in `messages`, or one by one before live ones."
        ),
    ]
    messages: Annotated[list[EventJson], Meta(description="The missed events, oldest first.")]
    id: Id = None


class Left(Message, frozen=True, tag="left"):
    """The recipient is no longer in the room."""

    room: RoomName
    id: Id = None


class Acknowledged(Message, frozen=True, tag="ack"):
    """A chat or publish is stored; without a position if it is ephemeral."""

    room: RoomName
    offset: Offset | None = None
    epoch: Epoch | None = None
    id: Id = None


class User(msgspec.Struct, frozen=True):
    """A user in a room."""

    user_id: UserId
    connections: Annotated[int, Meta(description="The user's connections in the room, on all nodes.")]


class PresenceList(Message, frozen=True, tag="presence"):
    """The users in a room."""

    room: RoomName
    room_size: RoomSize
    users: list[User]
    id: Id = None


class HistoryPage(Message, frozen=True, tag="history"):
    """Some of a room's events."""

    room: RoomName
    messages: Annotated[list[EventJson], Meta(description="Oldest first; newest first with `reverse`.")]
    offset: Offset
    epoch: Epoch
    id: Id = None


class Gap(Message, frozen=True, tag="gap"):
    """The range of events that were not written to this connection."""

    room: RoomName
    first: Offset = field(name="from")
    last: Offset = field(name="to")


class Error(Message, frozen=True, tag="error"):
    """A request was refused."""

    code: Annotated[str, Meta(title="ErrorCode")]
    message: Annotated[
        str, Meta(description="The reason, for people; of `invalid_message` the field and its rule.")
    ]
    retry_after_ms: Milliseconds | None = None
    id: Id = None


class Pong(Message, frozen=True, tag="pong"):
    """The answer to a ping."""

    id: Id = None


class Refreshed(Message, frozen=True, tag="refreshed"):
    """A new token was accepted."""

    expires_at: Annotated[
        int | None, Meta(description="Unix seconds, by the server's clock; null: the token does not expire.")
    ]
    expires_in_ms: Milliseconds | None = None
    id: Id = None


class Reconnect(Message, frozen=True, tag="reconnect"):
    """The server is draining."""

    after_ms: Milliseconds


class Closing(msgspec.Struct, frozen=True):
    """The end of an event stream, instead of the close frame of a WebSocket: the data of `event: close`."""

    code: Annotated[int, Meta(title="CloseCode")]
    reason: Annotated[str, Meta(description="The reason, for people.")]


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
