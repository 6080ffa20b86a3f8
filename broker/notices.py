"""The notices that the broker sends to members, as values; a codec turns them into the bytes of one protocol."""

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from broker.errors import Refused
from broker.model import Event, Position, Shown

RequestId: TypeAlias = str | int | None
"""The id of a client's request, repeated in the reply."""


class RoomEvent(msgspec.Struct, frozen=True):
    """An event, to all members."""

    room: str
    epoch: str
    event: Event


class UserJoined(msgspec.Struct, frozen=True):
    """One connection joined; to all members, the new one included."""

    room: str
    user_id: str
    room_size: int
    shown: Shown | None = None
    """The member, if it shows data."""


class UserLeft(msgspec.Struct, frozen=True):
    """One connection left; to all remaining members."""

    room: str
    user_id: str
    room_size: int
    shown: Shown | None = None
    """The member, if it showed data."""


class PresenceUpdated(msgspec.Struct, frozen=True):
    """A member shows another info or state than before; to all members, itself included."""

    room: str
    shown: Shown


class PresenceChanged(msgspec.Struct, frozen=True):
    """A batch of joins, leaves and updates of a large room; a user id occurs once for each connection."""

    room: str
    joined: tuple[str, ...]
    left: tuple[str, ...]
    room_size: int
    updated: tuple[Shown, ...] = ()
    """The latest of those who joined with data, and of those who show something else than before."""
    gone: tuple[str, ...] = ()
    """The connections among those that left that showed data."""


class PresenceList(msgspec.Struct, frozen=True):
    """The members of a room, in one of three forms."""

    room: str
    room_size: int
    users: tuple[tuple[str, int], ...] | None = None
    """The users, with their numbers of connections."""
    request_id: RequestId = None
    infos: Mapping[str, bytes] = {}
    """The info of each user that shows one."""
    connections: tuple[Shown, ...] | None = None
    """All connections, instead of the users."""
    user_count: int | None = None
    """The number of users, instead of the users."""
    is_partial: bool = False
    """Whether infos and states are missing, as there would be too many bytes of them."""


class Withheld(msgspec.Struct, frozen=True):
    """The events from `first` to `offset` (both included) are not for the recipient, whose position is behind them."""

    room: str
    epoch: str
    first: int
    offset: int


class Joined(msgspec.Struct, frozen=True):
    """The answer to a join, and the first notice that a new member gets of the room."""

    room: str
    room_size: int
    position: Position
    is_recovered: bool
    events: tuple[Event | Withheld, ...]
    request_id: RequestId = None
    connection: str = ""
    """The id of the new member's connection."""
    presence: PresenceList | None = None
    """The members, if they were asked for."""


class Left(msgspec.Struct, frozen=True):
    """The recipient is no longer in the room: it left, or was removed."""

    room: str
    request_id: RequestId = None


class Acknowledged(msgspec.Struct, frozen=True):
    """The recipient's event is stored at `position`; None for an ephemeral event."""

    room: str
    position: Position | None
    request_id: RequestId


class Called(msgspec.Struct, frozen=True):
    """The answer of the application to a call: JSON."""

    data: bytes
    request_id: RequestId = None


class HistoryPage(msgspec.Struct, frozen=True):
    """Some of a room's events, and the room's current position."""

    room: str
    events: tuple[Event | Withheld, ...]
    position: Position
    request_id: RequestId = None


class Gap(msgspec.Struct, frozen=True):
    """Events from `first` to `last` (offsets, both included) were not written to the recipient."""

    room: str
    first: int
    last: int


class Failed(msgspec.Struct, frozen=True):
    """A request was refused."""

    refused: Refused
    request_id: RequestId = None


class Pong(msgspec.Struct, frozen=True):
    """The answer to a ping."""

    request_id: RequestId = None


class Refreshed(msgspec.Struct, frozen=True):
    """A new token was accepted; `expires_at` is Unix seconds. Both times are None for a token that does not expire."""

    expires_at: float | None
    expires_in_seconds: float | None = None
    """By the server's clock; for clients whose own clock is wrong."""
    request_id: RequestId = None


class Reconnect(msgspec.Struct, frozen=True):
    """The server is draining; the recipient should reconnect after this delay."""

    after_ms: int


Notice: TypeAlias = (
    RoomEvent
    | UserJoined
    | UserLeft
    | PresenceUpdated
    | PresenceChanged
    | Joined
    | Left
    | Acknowledged
    | Called
    | PresenceList
    | HistoryPage
    | Gap
    | Withheld
    | Failed
    | Pong
    | Refreshed
    | Reconnect
)
