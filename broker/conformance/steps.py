"""The steps of a script: what the server does, and what the client must do. Values; `script` plays them."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import attrs

from broker.errors import CloseCode, ErrorCode

Frames: TypeAlias = Literal["whole", "fragments", "bytes"]
"""How an event is sent: in one frame, in fragments with pings between them, or byte by byte."""

LineKind: TypeAlias = Literal["stored", "refused", "left", "closed"]
"""The keys of a client's lines about its own requests, its room and its connection."""


# The server's steps.


@attrs.frozen(init=False)
class Say:
    """Store chats with these texts, and send them to the client."""

    texts: tuple[str, ...]
    frames: Frames

    def __init__(self, *texts: str, frames: Frames = "whole") -> None:
        self.__attrs_init__(texts, frames)


@attrs.frozen(init=False)
class Store:
    """Store chats with these texts, while the client is not connected."""

    texts: tuple[str, ...]

    def __init__(self, *texts: str) -> None:
        self.__attrs_init__(texts)


@attrs.frozen
class Send:
    """Send a message with the room's name added, and stored first, with a position, if it `is_event`."""

    message: Mapping[str, Any]
    is_event: bool = False


@attrs.frozen
class Skip:
    """Store events that are not sent, and send the `gap` that names them."""

    count: int


@attrs.frozen
class Withhold:
    """Store an event that is not for the client; send the `withheld` in its place, unless it is away."""

    is_away: bool = False


@attrs.frozen
class Forget:
    """Hold none of the stored events any more."""


@attrs.frozen
class BeginEpoch:
    """Begin a new epoch without any events."""


@attrs.frozen
class Remove:
    """Remove the client from the room."""


@attrs.frozen
class Reconnect:
    """Ask the client to reconnect after a delay."""

    after_ms: int


@attrs.frozen
class Cut:
    """End the connection without a close frame."""


@attrs.frozen
class Close:
    """Close the connection. With 4101, the tokens that the client has are not accepted any more."""

    code: int
    reason: str = ""


@attrs.frozen
class FallSilent:
    """Leave the connection open, and neither answer nor send anything on it."""


@attrs.frozen
class Wait:
    """Do nothing for some seconds."""

    seconds: float


@attrs.frozen
class Keep:
    """Store the client's last chat, and send nothing yet."""


@attrs.frozen
class Acknowledge:
    """Store the client's last chat, if it is not stored yet, and send its `ack`."""


@attrs.frozen
class Echo:
    """Store the client's last chat, if it is not stored yet, and send its event."""


@attrs.frozen
class Refuse:
    """Send an `error` for the client's last chat."""

    code: str
    retry_after_ms: int | None = None


@attrs.frozen
class RefuseAll:
    """Close every connection at once for some seconds, in which the client may make `at_most` of them."""

    code: CloseCode
    seconds: float
    at_most: int


# The client's steps. Each has a time limit.


@attrs.frozen
class Connects:
    """It connects, not earlier than some seconds after the server's last delay was sent.

    With `is_soon` the time limit is a quarter of the others, with `is_silent` that of the client's heartbeat.
    """

    not_before_seconds: float = 0.0
    is_soon: bool = False
    is_silent: bool = False


@attrs.frozen
class Joins:
    """It joins the room, with a `since` if it `returns`; the room's state decides the answer, unless it is refused."""

    returns: bool = False
    refused: ErrorCode | None = None


@attrs.frozen(init=False)
class Hands:
    """It hands chats with these texts to its application, each once and in this order."""

    texts: tuple[str, ...]
    may_tell_gap: bool

    def __init__(self, *texts: str, may_tell_gap: bool = False) -> None:
        self.__attrs_init__(texts, may_tell_gap)


@attrs.frozen
class HandsGap:
    """It tells its application that events may be missing here."""


@attrs.frozen
class Asks:
    """It sends a chat with this text and an id."""

    text: str


@attrs.frozen
class Resolves:
    """It sends its last chat again, and tells its application that it is stored; or tells it that it failed.

    Not earlier than some seconds after the server's last delay was sent; with `same_id` only with the id of the first time.
    """

    not_before_seconds: float = 0.0
    same_id: bool = False


@attrs.frozen
class Tells:
    """It prints a line of one of these kinds, with this value if it is given."""

    kinds: tuple[LineKind, ...]
    value: str | int | None = None


@attrs.frozen
class AnswersPing:
    """It answers a ping frame with a pong of the same content."""


@attrs.frozen
class StaysAway:
    """It makes no connection for some seconds."""

    seconds: float


@attrs.frozen
class StaysOut:
    """It does not join for some seconds, on this connection or another."""

    seconds: float


ServerStep: TypeAlias = (
    Say
    | Store
    | Send
    | Skip
    | Withhold
    | Forget
    | BeginEpoch
    | Remove
    | Reconnect
    | Cut
    | Close
    | FallSilent
    | Wait
    | Keep
    | Acknowledge
    | Echo
    | Refuse
    | RefuseAll
)
ClientStep: TypeAlias = (
    Connects | Joins | Hands | HandsGap | Asks | Resolves | Tells | AnswersPing | StaysAway | StaysOut
)
Step: TypeAlias = ServerStep | ClientStep
