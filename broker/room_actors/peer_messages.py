"""The messages between nodes about a room with code: requests to the owner, its answers, what it says to some. Pure.

They are MessagePack. A field of a later version goes to the end and has a default.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import attrs
import msgspec

from broker.errors import EngineTrouble, EngineUnavailableError, ErrorCode, Refused
from broker.model import Draft, Event, IdempotencyKey, Position, Shown
from broker.room_actors.turn import PrivateSay
from broker.rooms.messages import ForCode


class JoinRequest(msgspec.Struct, frozen=True, tag="join"):
    """Whether a member may join. `number` is the request's, on the node that sends it; the others: see Forwarder."""

    number: int
    generation: int
    member: Shown
    ordinal: int = 0


class LeaveRequest(msgspec.Struct, frozen=True, tag="leave"):
    """A member has left."""

    number: int
    generation: int
    member: Shown
    ordinal: int = 0


class PublishRequest(msgspec.Struct, frozen=True, tag="publish"):
    """Publish a message; `sender` is None for a service."""

    number: int
    generation: int
    draft: Draft
    sender: Shown | None
    ordinal: int = 0


class CallRequest(msgspec.Struct, frozen=True, tag="call"):
    """Call a method; `sender` is None for a service."""

    number: int
    generation: int
    method: str
    data: bytes | None
    key: IdempotencyKey | None
    sender: Shown | None
    ordinal: int = 0


Request: TypeAlias = JoinRequest | LeaveRequest | PublishRequest | CallRequest


class Done(msgspec.Struct, frozen=True, tag="done"):
    """A request was done."""

    number: int
    position: Position | None = None
    """That of the event of a publish, or of the first stored event that the turn of a join has said."""
    content: bytes = b""
    """The result of a call: JSON."""
    events: tuple[Event, ...] = ()
    """The events that the turn of a join has said to all."""


class NotDone(msgspec.Struct, frozen=True, tag="not done"):
    """A request was refused."""

    number: int
    code: ErrorCode
    reason: str
    retry_after_ms: int | None

    def as_refused(self) -> Refused:
        """Return the refusal as the requester gets it."""
        return Refused(self.code, self.reason, self.retry_after_ms)


class Unavailable(msgspec.Struct, frozen=True, tag="unavailable"):
    """A request could not be done, or it is not known whether it was."""

    number: int
    trouble: EngineTrouble
    retry_after_ms: int

    def as_error(self) -> EngineUnavailableError:
        """Return the error as the engine would have raised it here."""
        return EngineUnavailableError(
            "the owner of the room could not do it", trouble=self.trouble, retry_after_ms=self.retry_after_ms
        )


class Moved(msgspec.Struct, frozen=True, tag="moved"):
    """The node does not own the room, and has done nothing."""

    number: int


class Probe(msgspec.Struct, frozen=True, tag="probe"):
    """Requests that have no answer yet. Those that the owner does not have, or not any more, are answered `Unavailable`."""

    numbers: tuple[int, ...]


Answer: TypeAlias = Done | NotDone | Unavailable | Moved


class Said(msgspec.Struct, frozen=True, tag="said"):
    """A message of the room's code to some members."""

    say: PrivateSay
    time_ms: int


Item: TypeAlias = Request | Answer | Said | Probe

_items = msgspec.msgpack.Decoder(tuple[Item, ...])


def pack_items(items: Sequence[Item]) -> bytes:
    """Return items as one message."""
    return msgspec.msgpack.encode(items)


def parse_items(message: bytes) -> tuple[Item, ...]:
    """Parse a message.

    :raises ValueError: if it is none.
    """
    try:
        return _items.decode(message)
    except (msgspec.MsgspecError, MemoryError, RecursionError) as error:
        raise ValueError(str(error)) from error


@attrs.frozen
class GuestRequest(ForCode):
    """The request of another node, to the room on the node that owns it."""

    node: str
    request: Request
    answer: Callable[[Answer], None]

    def refuse(self, refused: Refused) -> None:
        """Answer with a refusal."""
        number = self.request.number
        self.answer(NotDone(number, refused.code, refused.message, refused.retry_after_ms))

    def fail(self, error: EngineUnavailableError) -> None:
        """Answer that it could not be done."""
        self.answer(Unavailable(self.request.number, error.trouble, error.retry_after_ms))


@attrs.frozen
class FromOwner(ForCode):
    """Answers, and what the code says to some, from the node that owns the room."""

    items: Sequence[Answer | Said]


@attrs.frozen
class NotSent(ForCode):
    """Requests did not reach the owner; if that is not certain, it is not known whether they are done."""

    numbers: Sequence[int]
    is_certain: bool


@attrs.frozen
class PeersBehind(ForCode):
    """Messages of other nodes may have been missed: it is not known what became of requests."""


@attrs.frozen
class LookForOwner(ForCode):
    """The timer of requests that wait for the owner, or for its answer."""


@attrs.frozen
class CheckGuests(ForCode):
    """The timer of members on other nodes: some may have gone with their node."""
