"""The messages of a room's mailbox."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import attrs
import msgspec

from actors import Reply
from broker.engine.base import Receipt, Run
from broker.engine.presence import RemoteChange
from broker.model import Draft, Event, IdempotencyKey, Position, PresenceBy, TagFilter
from broker.notices import PresenceList, RequestId
from broker.rooms.member import Member


class Join(msgspec.Struct, frozen=True):
    """Add a member and send it `joined`; a present member is sent `joined` again.

    If the reply fails, with `Refused` where the room is full, the member was not added. With `by`, `joined` lists the members. With `last`, which excludes
    `since`, `joined` has the newest `last` events that are held. With `wanted`, the member gets only events that match;
    a later join replaces that.
    """

    member: Member
    since: Position | None
    request_id: RequestId
    reply: Reply[None]
    by: PresenceBy | None = None
    last: int | None = None
    wanted: TagFilter | None = None


@attrs.frozen
class Leave:
    """Remove a member, if it is present. `is_answered`: send it `left`."""

    member: Member
    is_answered: bool = False
    request_id: RequestId = None


class Publish(msgspec.Struct, frozen=True):
    """Publish an event. A `sender` with a request id is sent `ack`; a `reply` is set to the receipt."""

    draft: Draft
    sender: Member | None = None
    request_id: RequestId = None
    reply: Reply["Published"] | None = None


class Published(msgspec.Struct, frozen=True):
    """The result of a Publish: its receipt, and the room's size at that time."""

    receipt: Receipt
    room_size: int


@attrs.frozen
class SendPresence:
    """Send a member the list of members; `reply` is answered once that is in its outbox."""

    member: Member
    request_id: RequestId
    reply: Reply[None] | None = None
    by: PresenceBy = PresenceBy.USER


@attrs.frozen
class ShowInfo:
    """The token of a member, if it is present, has another info."""

    member: Member


@attrs.frozen
class SetState:
    """Set what a member shows of itself in the room, None for nothing; with a request id it is sent `ack`."""

    member: Member
    state: bytes | None
    request_id: RequestId = None


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
    """The timer of batched joins and leaves has expired."""


@attrs.frozen
class CatchUp:
    """Deliver all undelivered events of the engine: some may have been missed, or the engine can be read again."""


class FeedEvents(msgspec.Struct, frozen=True):
    """The events of one append, on this node or another, from the engine's feed."""

    epoch: str
    events: Sequence[Event]


@attrs.frozen
class RemoteChanged:
    """The users of another node in the room have changed."""

    change: RemoteChange


@attrs.frozen
class ReadRemoteMembers:
    """Read the members on other nodes, if `lost_node` has some or is None."""

    lost_node: str | None = None


@attrs.frozen
class RoomInfo:
    """A room as the HTTP API shows it."""

    room: str
    room_size: int
    position: Position
    users: tuple[tuple[str, int], ...]
    presence: PresenceList | None = None
    """The members in the form that was asked for."""


@attrs.frozen
class Inspect:
    """Get the room's info, with a list of its members."""

    reply: Reply[RoomInfo]
    by: PresenceBy = PresenceBy.USER


@attrs.frozen
class ReadHistory:
    """Get some of the room's events."""

    since: Position | None
    limit: int
    reverse: bool
    reply: Reply[Run]


class AppendDone(msgspec.Struct, frozen=True):
    """The append that was begun in a borrowed turn is done, one way or the other; see PendingAppend."""


class SendWithheld(msgspec.Struct, frozen=True):
    """The timer of members that have to be told of events withheld from them has expired."""


class SendQueued(msgspec.Struct, frozen=True):
    """Go on with a broadcast; sent by the room to itself, so that publishes that came meanwhile are handled before."""


@attrs.frozen
class Call:
    """Call a method of a room that an application wrote. A `sender` is sent `result` or `error`; a `reply` is settled.

    `data` is JSON; None if there was none.
    """

    method: str
    data: bytes | None
    key: IdempotencyKey | None = None
    sender: Member | None = None
    request_id: RequestId = None
    reply: Reply[bytes] | None = None


@attrs.frozen
class TimerDue:
    """A stored timer of a room that an application wrote is due; the reply is set once it has had its turn, or has none."""

    name: str
    due_ms: int
    """Milliseconds of the age clock."""
    reply: Reply[None]


@attrs.frozen
class TaskEnded:
    """A task that a room's code started has ended, with a result or an exception."""

    name: str
    value: Any = None
    error: Exception | None = None


class ForCode:
    """Base class of further messages to rooms with code; others pass over them."""


RoomMessage: TypeAlias = (
    Join
    | Leave
    | Publish
    | SendPresence
    | ShowInfo
    | SetState
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
    | AppendDone
    | SendWithheld
    | SendQueued
    | Call
    | TimerDue
    | TaskEnded
    | ForCode
)
