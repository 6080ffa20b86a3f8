"""The messages of the server: their fields in JSON, in the order in which they are written."""

from collections.abc import Sequence
from typing import Annotated, TypeAlias, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from broker.protocol.fields import (
    ConnectionId,
    Epoch,
    EventJson,
    Id,
    Info,
    Milliseconds,
    Offset,
    RoomName,
    RoomSize,
    State,
    UserId,
)

PROTOCOL_NAME = "greenroom.v1"
"""The subprotocol of WebSockets (RFC 6455 section 1.9)."""


class Message(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """Any message of the server but an event, which is its content with room and position."""


class UserJoined(Message, frozen=True, tag="user_joined"):
    """A connection joined; with its id if it shows info or state."""

    room: RoomName
    user_id: UserId
    room_size: RoomSize
    connection: ConnectionId | UnsetType = UNSET
    info: Info | UnsetType = UNSET
    state: State | UnsetType = UNSET


class UserLeft(Message, frozen=True, tag="user_left"):
    """A connection left; with its id if it showed info or state."""

    room: RoomName
    user_id: UserId
    room_size: RoomSize
    connection: ConnectionId | UnsetType = UNSET
    info: Info | UnsetType = UNSET


class PresenceUpdate(Message, frozen=True, tag="presence_update"):
    """A connection shows another info or state than before; all that it shows now."""

    room: RoomName
    user_id: UserId
    connection: ConnectionId
    info: Info | UnsetType = UNSET
    state: State | UnsetType = UNSET


class Connection(msgspec.Struct, frozen=True, omit_defaults=True):
    """A connection in a room, and what it shows; without an id if it is on a node of an earlier version."""

    user_id: UserId
    connection: ConnectionId | UnsetType = UNSET
    info: Info | UnsetType = UNSET
    state: State | UnsetType = UNSET


class PresenceChanged(Message, frozen=True, tag="presence_changed"):
    """A batch of joins, leaves and updates of a large room."""

    room: RoomName
    joined: Annotated[Sequence[UserId], Meta(description="A user id for each connection that joined.")]
    left: Annotated[Sequence[UserId], Meta(description="A user id for each connection that left.")]
    room_size: RoomSize
    gone: Annotated[
        Sequence[ConnectionId] | UnsetType,
        Meta(description="The connections that showed info or state and left; they come before `updates`."),
    ] = UNSET
    updates: Annotated[
        Sequence[Connection] | UnsetType,
        Meta(description="The connections that joined with info or state, or show another than before."),
    ] = UNSET


class User(msgspec.Struct, frozen=True, omit_defaults=True):
    """A user in a room, with the info of the newest connection that has one."""

    user_id: UserId
    connections: Annotated[int, Meta(description="The user's connections in the room, on all nodes.")]
    info: Info | UnsetType = UNSET


UserCount: TypeAlias = Annotated[int, Meta(description="The number of users in the room, on all nodes.")]
Partial: TypeAlias = Annotated[
    bool, Meta(description="Whether info and state of some are left out, as they are too many bytes.")
]


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
    messages: Annotated[
        list[EventJson],
        Meta(
            description="The missed events, oldest first, with `withheld` in the place of those not for this one."
        ),
    ]
    id: Id = None
    connection: ConnectionId | UnsetType = UNSET
    users: list[User] | UnsetType = UNSET
    connections: list[Connection] | UnsetType = UNSET
    user_count: UserCount | UnsetType = UNSET
    partial: Partial = False


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


class Result(Message, frozen=True, tag="result"):
    """The answer of the application to a call. Unlike an event, also one of the same `type`, it has no `room`."""

    data: Annotated[msgspec.Raw, Meta(description="Any JSON value.")]
    id: Id = None


class PresenceList(Message, frozen=True, tag="presence"):
    """The users, the connections or the number of users in a room."""

    room: RoomName
    room_size: RoomSize
    users: list[User] | UnsetType = UNSET
    connections: list[Connection] | UnsetType = UNSET
    user_count: UserCount | UnsetType = UNSET
    partial: Partial = False
    id: Id = None


class HistoryPage(Message, frozen=True, tag="history"):
    """Some of a room's events."""

    room: RoomName
    messages: Annotated[
        list[EventJson],
        Meta(
            description="Oldest first; newest first with `reverse`. `withheld` is in the place of events that are not "
            "for this connection."
        ),
    ]
    offset: Offset
    epoch: Epoch
    id: Id = None


class Gap(Message, frozen=True, tag="gap"):
    """The range of events that were not written to this connection."""

    room: RoomName
    first: Offset = field(name="from")
    last: Offset = field(name="to")


class Withheld(Message, frozen=True, tag="withheld"):
    """The events from `from` to `offset` are not for this connection, by its filter or because it is excluded."""

    room: RoomName
    first: Offset = field(name="from")
    offset: Offset
    epoch: Epoch


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
    | PresenceUpdate
    | PresenceChanged
    | Joined
    | Left
    | Acknowledged
    | Result
    | PresenceList
    | HistoryPage
    | Gap
    | Withheld
    | Error
    | Pong
    | Refreshed
    | Reconnect
)

MESSAGE_TYPES: tuple[str, ...] = tuple(str(message.__struct_config__.tag) for message in get_args(AnyMessage))
