"""The commands of clients, and the decoder of text messages."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeAlias, TypeVar, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from broker.errors import ErrorCode, NotPortable, Refused
from broker.model import Position, TagFilter
from broker.notices import RequestId
from broker.portable_json import MAX_BRACKET_RUNS, decode, explain_undecoded, members
from broker.protocol.fields import Epoch, EventName, Id, MethodName, Offset, RoomName, Tags, WantedTags

T = TypeVar("T")

By: TypeAlias = Literal["user", "connection", "count"]
"""The values of `broker.model.PresenceBy`; not the type itself, which would be a definition of its own in the schema."""


class Since(msgspec.Struct, frozen=True):
    """The last position that a client has received."""

    offset: Offset
    epoch: Epoch


def position_of(since: Since | None) -> Position | None:
    """Return the position in a command, if it has one."""
    return None if since is None else Position(since.epoch, since.offset)


def filter_of(wanted: Mapping[str, Sequence[str]] | None) -> TagFilter | None:
    """Return the filter of a join; None if it has none, or an empty one, which wants all."""
    return TagFilter.of(wanted) if wanted else None


Echo: TypeAlias = Annotated[
    bool,
    Meta(description="Whether this connection gets the event as well; without, `withheld` in its place."),
]


class Command(msgspec.Struct, frozen=True, tag_field="type", kw_only=True):
    """Any request; its reply carries the same `id`. Unknown fields are ignored."""

    id: Id = None


class Chat(Command, frozen=True, tag="chat"):
    """Publish a text in a room; answered only if it has an id, with which it is published once."""

    text: Annotated[
        str,
        Meta(
            description="Of more than `limits.text_characters` (500) the rest is cut, and the event is `truncated`."
        ),
    ]
    room: RoomName | None = None
    tags: Tags | None = None
    echo: Echo = True


class Publish(Command, frozen=True, tag="publish"):
    """Publish any JSON value in a room under an event name; answered and published once as `chat` is."""

    event: EventName
    data: Annotated[
        msgspec.Raw,
        Meta(
            description="Any JSON value, passed on byte for byte, that all clients can read; null counts as a value."
        ),
    ]
    room: RoomName | None = None
    ephemeral: Annotated[
        bool, Meta(description="Delivered in order, but not stored: without a position.")
    ] = False
    tags: Tags | None = None
    echo: Echo = True


class Call(Command, frozen=True, tag="call"):
    """Call a method of a room; the application answers."""

    method: MethodName
    data: Annotated[
        msgspec.Raw | UnsetType,
        Meta(description="Any JSON value that all clients can read; null if it is left out."),
    ] = UNSET
    room: RoomName | None = None


class Ping(Command, frozen=True, tag="ping"):
    """Ask for a pong."""


class Join(Command, frozen=True, tag="join"):
    """Join a room; with `since`, get the missed events, or with `last` the newest ones."""

    room: RoomName
    since: Since | None = None
    last: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(
            description="Most events in `messages` of `joined`: the newest ones, at most `history.page_messages` (1000); "
            "not together with `since`."
        ),
    ] = None
    presence: Annotated[By | None, Meta(description="The form in which `joined` is to list the members.")] = (
        None
    )
    tags: Annotated[
        WantedTags | None,
        Meta(description="Get only the events that match; until the next join of this room."),
    ] = None


class Leave(Command, frozen=True, tag="leave"):
    """Leave a room."""

    room: RoomName | None = None


class Presence(Command, frozen=True, tag="presence"):
    """Ask for the members of a room."""

    room: RoomName | None = None
    by: Annotated[By, Meta(description="List each user, list each connection, or only count the users.")] = (
        "user"
    )


class SetState(Command, frozen=True, tag="set_state"):
    """Show a JSON value to the members of a room beside this connection."""

    state: Annotated[
        msgspec.Raw,
        Meta(description="Any JSON value of up to `limits.state_bytes` (1024); null shows nothing."),
    ]
    room: RoomName | None = None


class History(Command, frozen=True, tag="history"):
    """Ask for a room's events: those after `since`, else the oldest or (reverse) the newest in its history."""

    room: RoomName | None = None
    since: Since | None = None
    limit: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Most events in the answer; `history.page_messages` (1000) at most."),
    ] = None
    reverse: Annotated[bool, Meta(description="The newest event first.")] = False


class Refresh(Command, frozen=True, tag="refresh"):
    """Present a new token for the same user."""

    token: Annotated[
        str, Meta(description="A JWT; the connection is closed with 4001 if it is not accepted.")
    ]


AnyCommand: TypeAlias = Chat | Publish | Call | Ping | Join | Leave | Presence | SetState | History | Refresh

COMMAND_TYPES: tuple[str, ...] = tuple(command.__struct_config__.tag for command in get_args(AnyCommand))

_TYPES = ", ".join(COMMAND_TYPES)


class _Envelope(msgspec.Struct):
    """The readable fields of a message that is no valid command."""

    type: msgspec.Raw = msgspec.Raw(b"null")
    id: msgspec.Raw = msgspec.Raw(b"null")


class BadCommandError(Exception):
    """A message that is no valid command, with its refusal and the id of the request."""

    def __init__(self, refused: Refused, request_id: RequestId = None) -> None:
        super().__init__(str(refused))
        self.refused = refused
        self.request_id = request_id


class CommandDecoder:
    """Decodes text messages into commands; all connections share one."""

    def __init__(self) -> None:
        self._commands: msgspec.json.Decoder[AnyCommand] = msgspec.json.Decoder(AnyCommand)
        self._envelopes = msgspec.json.Decoder(_Envelope)
        self._ids: msgspec.json.Decoder[RequestId] = msgspec.json.Decoder(Id)
        self._types = msgspec.json.Decoder(str)

    def decode(self, text: str | bytes) -> AnyCommand:
        """Return the command in `text`.

        :raises BadCommandError: `invalid_json`, `invalid_message` or `unknown_type`, with the request's id if the
            text is JSON and has one.
        """
        try:
            return decode(text, self._commands.decode)
        except msgspec.ValidationError as error:
            raise self._explain(text, error) from None
        except Refused as refused:
            raise self._with_id(refused, text) from None

    def request_id(self, text: str | bytes) -> RequestId:
        """Return the id of a message that is refused before it is decoded; None if it has no readable one."""
        written = text if isinstance(text, str) else text.decode(errors="replace")
        ids = [member.value for member in members(written, max_runs=MAX_BRACKET_RUNS) if member.key == '"id"']
        return _read(self._ids, ids[-1].encode(errors="replace")) if ids else None

    def _with_id(self, refused: Refused, text: str | bytes) -> BadCommandError:
        # Only JSON has an id.
        return BadCommandError(refused, self.request_id(text) if isinstance(refused, NotPortable) else None)

    def _explain(self, text: str | bytes, error: msgspec.ValidationError) -> BadCommandError:
        """Explain why a JSON text is no command; slower than decoding, and only for invalid messages."""
        try:
            envelope = self._envelopes.decode(text)
        except msgspec.ValidationError:
            return BadCommandError(Refused(ErrorCode.INVALID_MESSAGE, "a message is one JSON object"))
        except (msgspec.DecodeError, RecursionError):
            # The first decoding stopped at the mismatch; the JSON behind it is invalid.
            return self._with_id(explain_undecoded(text), text)
        kind = _read(self._types, envelope.type)
        if kind is None:
            refused = Refused(ErrorCode.INVALID_MESSAGE, f"type: a string, one of {_TYPES}")
        elif kind not in COMMAND_TYPES:
            refused = Refused(ErrorCode.UNKNOWN_TYPE, f"type: one of {_TYPES}")
        else:
            refused = Refused(ErrorCode.INVALID_MESSAGE, describe_mismatch(error))
        return BadCommandError(refused, _read(self._ids, envelope.id))


def _read(decoder: msgspec.json.Decoder[T], raw: msgspec.Raw | bytes) -> T | None:
    """Return the value of a field, None if it has the wrong type."""
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError:
        return None


def describe_mismatch(error: msgspec.ValidationError) -> str:
    """Return the mismatch, with the field first: "text: expected `str`, got `int`"."""
    what, _, where = str(error).partition(" - at `")
    # Of the key of an object: "key` in `$.tags`".
    field = where.rpartition("$")[2].strip("`.")
    what = what[:1].lower() + what[1:]
    return f"{field}: {what}" if field else what
