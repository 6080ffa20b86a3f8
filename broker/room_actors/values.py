"""The values that a room's code gets and raises."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, TypeVar, get_args

import attrs
import msgspec

from broker.errors import ErrorCode, GreenroomError, RefusalReason, Refused
from broker.model import Shown

T = TypeVar("T")

RefusalCode = Literal["forbidden", "invalid_message", "rate_limited", "unavailable"]


@attrs.frozen
class Refusal(GreenroomError):
    """Raised in a turn: the request is refused, the turn has not happened, and the room goes on.

    The requester gets an `error` with the reason (of up to 500 characters), its code, and the time in milliseconds after
    which it may try again.

    :raises ValueError: if its code is none of these, or its reason is no Unicode text.
    :raises TypeError: if its reason or its time is of another type.
    """

    reason: str = attrs.field(validator=attrs.validators.instance_of(str))
    code: RefusalCode = attrs.field(
        default="forbidden", validator=attrs.validators.in_(get_args(RefusalCode))
    )
    retry_after_ms: int | None = attrs.field(
        default=None,
        validator=attrs.validators.optional([attrs.validators.instance_of(int), attrs.validators.ge(0)]),
    )

    def __attrs_post_init__(self) -> None:
        self.reason.encode()

    def __str__(self) -> str:
        return self.reason

    def as_refused(self) -> Refused:
        """Return the refusal as the requester gets it."""
        return Refused(
            ErrorCode(self.code),
            self.reason[:MAX_REASON_CHARACTERS],
            self.retry_after_ms,
            why=RefusalReason.ROOM_ACTOR,
        )


MAX_REASON_CHARACTERS = 500


class Member(msgspec.Struct, frozen=True):
    """A connection in the room."""

    user_id: str
    connection: str
    """The id of the connection, unique over all servers and restarts."""
    info: Any = None
    """The claim `info` of its token."""


def member_of(shown: Shown) -> Member:
    """Return a connection as a room's code sees it."""
    info = None if shown.info is None else msgspec.json.decode(shown.info)
    return Member(shown.user_id, shown.connection, info)


class MessageKind(StrEnum):
    """The origin of a message."""

    CHAT = "chat"
    """A client's `chat`."""
    EVENT = "event"
    """A client's `publish`."""
    SERVICE = "service"
    """A message over the HTTP API, or of the program."""


class Message(msgspec.Struct, frozen=True):
    """A message that is to be published in the room."""

    kind: MessageKind
    name: str
    """The name of a client's own event, the type of a service's message, or `chat`."""
    content: msgspec.Raw
    """The text of a chat, the `data` of an event, or the whole message of a service; JSON."""
    is_ephemeral: bool = False
    tags: Mapping[str, str] = {}

    def decode(self, as_type: type[T]) -> T:
        """Return the content as a type that msgspec knows.

        :raises Refusal: `invalid_message` if it is none, which tells the sender why; let it pass.
        """
        try:
            return msgspec.json.decode(self.content, type=as_type)
        except msgspec.ValidationError as error:
            raise Refusal(f"{self.name}: {error}", code="invalid_message") from None

    def replaced(self, content: object) -> "Message":
        """Return the message with another text, data, or (for a service's) other fields; all else stays."""
        return msgspec.structs.replace(self, content=msgspec.Raw(msgspec.json.encode(content)))


class Timer(msgspec.Struct, frozen=True):
    """A timer that is due."""

    name: str
    late_seconds: float
    """How much later than it was set for: more than an instant if no server ran, or the room was busy or failed."""


class Task(msgspec.Struct, frozen=True):
    """A task of the room that has ended."""

    name: str
    value: Any = None
    """Its result."""
    error: Exception | None = None
    """The exception that it raised."""
