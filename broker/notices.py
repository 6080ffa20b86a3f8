"""What the broker says to those in a room, as values; a codec turns them into one protocol's bytes."""

from typing import TypeAlias

import attrs

from broker.errors import Refused
from broker.model import Event, Position

RequestId: TypeAlias = str | int | None
"""What a client put on its request to know the reply by."""


@attrs.frozen
class RoomEvent:
    """An event, to everyone in the room."""

    room: str
    epoch: str
    event: Event


@attrs.frozen
class UserJoined:
    """One connection came in, to everyone in the room, the newcomer included."""

    room: str
    user_id: str
    room_size: int


@attrs.frozen
class UserLeft:
    """One connection went away, to everyone still in the room."""

    room: str
    user_id: str
    room_size: int


@attrs.frozen
class PresenceChanged:
    """Joins and leaves of a large room, gathered; a user id stands once for each connection."""

    room: str
    joined: tuple[str, ...]
    left: tuple[str, ...]
    room_size: int


@attrs.frozen
class Joined:
    """The answer to a join, and the first thing that a new member hears of the room."""

    room: str
    room_size: int
    position: Position
    is_recovered: bool
    events: tuple[Event, ...]
    request_id: RequestId = None


@attrs.frozen
class Left:
    """The recipient is no longer in the room: it left, or was removed."""

    room: str
    request_id: RequestId = None


@attrs.frozen
class Acknowledged:
    """What the recipient sent is in the engine at `position`; None for an ephemeral event."""

    room: str
    position: Position | None
    request_id: RequestId


@attrs.frozen
class PresenceList:
    """Who is in a room: connections by user id."""

    room: str
    room_size: int
    users: tuple[tuple[str, int], ...]
    request_id: RequestId = None


@attrs.frozen
class HistoryPage:
    """Some of a room's events, and the room's present position."""

    room: str
    events: tuple[Event, ...]
    position: Position
    request_id: RequestId = None


@attrs.frozen
class Gap:
    """Events from `first` to `last` (offsets, both included) were not written to the recipient."""

    room: str
    first: int
    last: int


@attrs.frozen
class Failed:
    """A request was refused."""

    refused: Refused
    request_id: RequestId = None


@attrs.frozen
class Pong:
    """The answer to a ping."""

    request_id: RequestId = None


@attrs.frozen
class Refreshed:
    """A new token was taken; `expires_at` is Unix seconds, None for a token that does not run out."""

    expires_at: float | None
    request_id: RequestId = None


@attrs.frozen
class Reconnect:
    """The server is draining; the recipient should come back after this delay."""

    after_ms: int


Notice: TypeAlias = (
    RoomEvent
    | UserJoined
    | UserLeft
    | PresenceChanged
    | Joined
    | Left
    | Acknowledged
    | PresenceList
    | HistoryPage
    | Gap
    | Failed
    | Pong
    | Refreshed
    | Reconnect
)
