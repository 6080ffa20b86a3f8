"""Answers to the calls of a publisher. Fields that a later server adds are passed over."""

from typing import Any

import attrs

from broker.client.errors import RefusedError
from broker.model import Position


@attrs.frozen
class Published:
    """The position of a message. `offset` and `epoch` are None for an ephemeral one, which is not stored."""

    room: str
    offset: int | None
    epoch: str | None
    members: int
    """Connections in the room when it was published."""


@attrs.frozen
class Outcome:
    """The result of a broadcast in one room: `published` or `error` is None."""

    room: str
    published: Published | None
    error: RefusedError | None


@attrs.frozen
class UserConnections:
    """A user, and the number of its connections: in a room, or open at all.

    `info` is what the members of the room are shown of the user, None for nothing.
    """

    user_id: str
    connections: int
    info: Any = None


@attrs.frozen
class RoomSummary:
    """A room, with the number of connections in it and the position of its newest message."""

    room: str
    room_size: int
    offset: int
    epoch: str


@attrs.frozen
class RoomPage:
    """Rooms by name. `cursor` asks for those behind; None on the last page."""

    rooms: list[RoomSummary]
    cursor: str | None


@attrs.frozen
class RoomDetails:
    """A room with its users."""

    room: str
    room_size: int
    offset: int
    epoch: str
    users: list[UserConnections]


@attrs.frozen
class MessagePage:
    """Messages of a room, and the position of its newest one.

    `recovered`: whether no message after `since` is missing; None without `since`.
    """

    room: str
    messages: list[dict[str, Any]]
    offset: int
    epoch: str
    recovered: bool | None = None

    @property
    def position(self) -> Position:
        """The position of the room's newest message, as `since` takes it."""
        return Position(self.epoch, self.offset)


@attrs.frozen
class UserPage:
    """Users who are online, by id. `cursor` asks for those behind; None on the last page.

    Users of the `silent_nodes`, which did not answer in time, are missing.
    """

    users: list[UserConnections]
    cursor: str | None
    silent_nodes: int


@attrs.frozen
class UserRoom:
    """A room that a user is in, and how many of the user's connections are in it."""

    room: str
    connections: int


@attrs.frozen
class Revoked:
    """The connections that had the tokens, on all nodes but the `silent_nodes`, and until when the tokens are refused.

    `expires_at` is Unix seconds. Connections of silent nodes are closed too, and not counted.
    """

    disconnected: int
    expires_at: float
    silent_nodes: int = 0


@attrs.frozen
class OnlineUser:
    """The open connections of a user on all nodes but the `silent_nodes`, which did not answer in time."""

    user_id: str
    connections: int
    silent_nodes: int
    rooms: list[UserRoom] = attrs.Factory(list)
    """The rooms that these connections are in, by name; empty from a server of an earlier version."""

    @property
    def is_online(self) -> bool:
        """Whether there is a connection."""
        return self.connections > 0
