"""The JSON shapes of the API's requests and answers; /openapi.json describes them."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType
from quart import Response

from broker.auth.claims import LAST_SECOND, MAX_JTI_CHARACTERS
from broker.model import PresenceBy
from broker.protocol.fields import Excludable, Id, Offset, Tags
from broker.protocol.messages import Connection, User
from broker.rooms.messages import Published

MAX_BROADCAST_ROOMS = 1000


class Message(msgspec.Struct, frozen=True):
    """A JSON object with a `type` of the application's own; all its other fields are passed on as they are."""

    type: Annotated[str, Meta(min_length=1)]


MessageJson = Annotated[
    msgspec.Raw,
    Meta(
        description="a JSON object with a `type` of your own",
        extra_json_schema={
            "type": "object",
            "properties": {"type": {"type": "string", "minLength": 1}},
            "required": ["type"],
        },
    ),
]
"""A `Message` as it is written."""


class PublishQuery(msgspec.Struct, frozen=True):
    """Options of a publish."""

    ephemeral: Annotated[bool, Meta(description="deliver, but keep in no history")] = False
    tags: Annotated[
        str | UnsetType,
        Meta(
            description='for the filters of members: a JSON object of names and values, {"kind":"goal"}; at most 8, each '
            "of 1 to 64 characters"
        ),
    ] = UNSET
    exclude_user: Annotated[Excludable | UnsetType, Meta(description="not to this user's connections")] = (
        UNSET
    )
    exclude_connection: Annotated[
        Excludable | UnsetType, Meta(description="not to this connection, by its id in `joined`")
    ] = UNSET


class PublishHeaders(msgspec.Struct, frozen=True, rename={"idempotency_key": "Idempotency-Key"}):
    """Headers of a publish."""

    idempotency_key: Annotated[
        Annotated[str, Meta(min_length=1, max_length=128)] | UnsetType,
        Meta(description="1 to 128 characters; the same key within 5 minutes is stored once"),
    ] = UNSET


class CallHeaders(msgspec.Struct, frozen=True, rename={"idempotency_key": "Idempotency-Key"}):
    """Headers of a call."""

    idempotency_key: Annotated[
        str | UnsetType,
        Meta(description="1 to 128 characters; the same key within 5 minutes is answered as the first time"),
    ] = UNSET


class MethodCall(msgspec.Struct, frozen=True):
    """The argument of a call."""

    data: Annotated[
        msgspec.Raw | UnsetType, Meta(description="Any JSON value; left out, or no body at all, for none.")
    ] = UNSET


class CallResult(msgspec.Struct, frozen=True):
    """The result of a call."""

    data: Annotated[msgspec.Raw, Meta(description="Any JSON value.")]


class Placed(msgspec.Struct, frozen=True):
    """The position of a message. `offset` and `epoch` are null for an ephemeral one."""

    room: str
    offset: int | None
    epoch: str | None
    members: Annotated[int, Meta(description="connections in the room, over all nodes")]

    @classmethod
    def of(cls, room: str, published: Published) -> "Placed":
        """Return the answer to a publish."""
        position = published.receipt.position
        if position is None:
            return cls(room, None, None, published.room_size)
        return cls(room, position.offset, position.epoch, published.room_size)


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """The error of one message among many."""

    code: str
    message: str
    retry_after_ms: int | None = None


class Broadcast(msgspec.Struct, frozen=True):
    """One message for many rooms."""

    rooms: Annotated[list[str], Meta(min_length=1, max_length=MAX_BROADCAST_ROOMS)]
    message: MessageJson


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The result of one message among many: its position, or `error`."""

    room: str | UnsetType = UNSET
    offset: int | UnsetType | None = UNSET
    epoch: str | UnsetType | None = UNSET
    members: int | UnsetType = UNSET
    error: ErrorInfo | UnsetType = UNSET


class BroadcastResults(msgspec.Struct, frozen=True):
    """One result for each room, in the order of the request."""

    results: list[Outcome]


class BatchLine(msgspec.Struct, frozen=True):
    """One line of a batch."""

    room: str
    message: MessageJson
    id: Id = None
    tags: Tags | None = None
    exclude_user: Annotated[Excludable | None, Meta(description="not to this user's connections")] = None
    exclude_connection: Annotated[
        Excludable | None, Meta(description="not to this connection, by its id in `joined`")
    ] = None


class BatchResult(Outcome, frozen=True, omit_defaults=True, kw_only=True):
    """The result of a line."""

    line: Annotated[int, Meta(description="the number of the line in the request, from 1")]
    id: Id = None


class RoomsQuery(msgspec.Struct, frozen=True):
    """The rooms to list."""

    prefix: Annotated[str, Meta(description="only rooms whose names begin so")] = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    cursor: Annotated[str, Meta(description="`cursor` of the page before")] = ""


class RoomSummary(msgspec.Struct, frozen=True):
    """A room and its position."""

    room: str
    room_size: Annotated[int, Meta(description="connections in the room")]
    offset: int
    epoch: str


class RoomPage(msgspec.Struct, frozen=True):
    """Rooms by name. `cursor` asks for the page behind; null on the last."""

    rooms: list[RoomSummary]
    cursor: str | None


class UserConnections(msgspec.Struct, frozen=True):
    """A user, and how many connections are open."""

    user_id: str
    connections: int


class UsersQuery(msgspec.Struct, frozen=True):
    """The users to list."""

    prefix: Annotated[str, Meta(description="only users whose ids begin so")] = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    cursor: Annotated[str, Meta(description="`cursor` of the page before")] = ""


SilentNodes = Annotated[
    int, Meta(description="nodes that did not answer in time, so that their users are missing")
]


class UserPage(msgspec.Struct, frozen=True):
    """Users with open connections, by their ids. `cursor` asks for the page behind; null on the last."""

    users: list[UserConnections]
    cursor: str | None
    silent_nodes: SilentNodes


class UserRoom(msgspec.Struct, frozen=True):
    """A room that a user is in, and how many of the user's connections are in it."""

    room: str
    connections: int


class OnlineUser(msgspec.Struct, frozen=True):
    """A user, how many connections are open (0 if the user is not online), and the rooms that these are in."""

    user_id: str
    connections: int
    silent_nodes: SilentNodes
    rooms: Annotated[list[UserRoom], Meta(description="by name; hidden connections count as well")]


class RoomQuery(msgspec.Struct, frozen=True):
    """The form of the list of members."""

    by: Annotated[
        PresenceBy, Meta(description="list each user, list each connection, or only count the users")
    ] = PresenceBy.USER


class RoomDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """A room, its position and its members: `users`, `connections` or `user_count`, as asked for with `by`.

    `partial`: info and state of some are left out, as there are too many bytes of them. `has_code`: it has code of its
    own, which `/code` tells of.
    """

    room: str
    room_size: int
    offset: int
    epoch: str
    users: list[User] | UnsetType = UNSET
    connections: list[Connection] | UnsetType = UNSET
    user_count: int | UnsetType = UNSET
    partial: bool = False
    has_code: bool = False


class HistoryQuery(msgspec.Struct, frozen=True):
    """The messages to give."""

    since: Annotated[Offset | UnsetType, Meta(description="only those behind this offset; with `epoch`")] = (
        UNSET
    )
    epoch: Annotated[str | UnsetType, Meta(description="the epoch that `since` is of")] = UNSET
    limit: Annotated[
        Annotated[int, Meta(ge=1)] | UnsetType,
        Meta(description="at most history.page_messages, which is the default"),
    ] = UNSET
    reverse: Annotated[bool, Meta(description="the newest first")] = False


class History(msgspec.Struct, frozen=True):
    """Some of a room's messages, and the room's position.

    `recovered` is there if `since` was given: whether no message after it is lost.
    """

    room: str
    messages: list[msgspec.Raw]
    offset: int
    epoch: str
    recovered: bool | UnsetType = UNSET


class Removed(msgspec.Struct, frozen=True):
    """How many connections were removed from the room."""

    removed: int


class Cleared(msgspec.Struct, frozen=True):
    """How many messages were deleted from the history."""

    deleted: int


class Disconnected(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many connections are being closed, over all nodes; without those of the `silent_nodes`, left out if none."""

    disconnected: int
    silent_nodes: SilentNodes = 0


UnixSeconds = Annotated[float, Meta(ge=0, le=LAST_SECOND)]


class RevocationRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tokens to take back: one by its `jti`, or those of a user, all or those issued before a time."""

    jti: Annotated[
        Annotated[str, Meta(min_length=1, max_length=MAX_JTI_CHARACTERS)] | UnsetType,
        Meta(description="the claim jti of the token"),
    ] = UNSET
    user_id: Annotated[
        Annotated[str, Meta(min_length=1, max_length=128)] | UnsetType,
        Meta(
            description="all tokens with this sub, those issued later too; with `issued_before`, only older ones"
        ),
    ] = UNSET
    issued_before: Annotated[
        UnixSeconds | UnsetType,
        Meta(description="only tokens whose iat is before this time, or that have no iat; Unix seconds"),
    ] = UNSET
    expires_at: Annotated[
        UnixSeconds | UnsetType,
        Meta(description="how long it holds, Unix seconds; by default auth.revocation_seconds from now"),
    ] = UNSET


class Revoked(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many connections had the tokens, over all nodes, and until when the tokens are refused (Unix seconds)."""

    disconnected: int
    expires_at: float
    silent_nodes: SilentNodes = 0


def answer(value: msgspec.Struct, status: int = 200) -> Response:
    """Return `value` as a JSON response."""
    return Response(msgspec.json.encode(value), status, content_type="application/json")
