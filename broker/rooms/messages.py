"""What can be told to a room."""

from collections.abc import Sequence
from typing import TypeAlias

import attrs

from actors import Reply
from broker.engine.base import Receipt, Run
from broker.engine.presence import RemoteChange
from broker.model import Draft, Event, Position
from broker.notices import RequestId
from broker.rooms.member import Member


@attrs.frozen
class Join:
    """Take a member in and send it `joined`; one already in only hears `joined` again.

    If the reply fails, the member was not taken in.
    """

    member: Member
    since: Position | None
    request_id: RequestId
    reply: Reply[None]


@attrs.frozen
class Leave:
    """Let a member go; nothing happens if it is not in. `is_answered`: send it `left`."""

    member: Member
    is_answered: bool = False
    request_id: RequestId = None


@attrs.frozen
class Publish:
    """Say something. A `sender` with a request id is sent `ack`; a `reply` is given the receipt."""

    draft: Draft
    sender: Member | None = None
    request_id: RequestId = None
    reply: Reply["Published"] | None = None


@attrs.frozen
class Published:
    """What became of a Publish: its receipt, and the room's size then."""

    receipt: Receipt
    room_size: int


@attrs.frozen
class SendPresence:
    """Send a member the list of who is in; `reply` is answered once that is in its outbox."""

    member: Member
    request_id: RequestId
    reply: Reply[None] | None = None


@attrs.frozen
class SendHistory:
    """Send a member some of the room's events; `reply` is answered once they are in its outbox."""

    member: Member
    since: Position | None
    limit: int
    reverse: bool
    request_id: RequestId
    reply: Reply[None] | None = None


@attrs.frozen
class Remove:
    """Remove all of a user's connections from the room, on all nodes; answered with how many there were."""

    user_id: str
    reply: Reply[int]


@attrs.frozen
class RemoveHere:
    """Another node was asked to remove a user."""

    user_id: str


@attrs.frozen
class SendPresenceBatch:
    """The time has come to tell of gathered joins and leaves."""


@attrs.frozen
class CatchUp:
    """Something may have been missed, or can perhaps be read again: tell what is in the engine and was not told."""


@attrs.frozen
class FeedEvents:
    """The engine's feed brings what one append has added, here or on another node."""

    epoch: str
    events: Sequence[Event]


@attrs.frozen
class RemoteChanged:
    """Another node tells of its users in the room."""

    change: RemoteChange


@attrs.frozen
class ReadRemoteMembers:
    """Read who is on other nodes, if `lost_node` is one of them or none is named."""

    lost_node: str | None = None


@attrs.frozen
class RoomInfo:
    """A room as the HTTP API tells of it."""

    room: str
    room_size: int
    position: Position
    users: tuple[tuple[str, int], ...]


@attrs.frozen
class Inspect:
    """Ask for the room's info."""

    reply: Reply[RoomInfo]


@attrs.frozen
class ReadHistory:
    """Ask for some of the room's events."""

    since: Position | None
    limit: int
    reverse: bool
    reply: Reply[Run]


RoomMessage: TypeAlias = (
    Join
    | Leave
    | Publish
    | SendPresence
    | SendHistory
    | Remove
    | RemoveHere
    | SendPresenceBatch
    | CatchUp
    | FeedEvents
    | RemoteChanged
    | ReadRemoteMembers
    | Inspect
    | ReadHistory
)
