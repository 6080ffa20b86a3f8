"""What the pure part of the client wants done."""

from typing import Any, TypeAlias

import attrs

from broker.client.errors import ClientError

Message: TypeAlias = dict[str, Any]
"""A message of the protocol, as JSON has it."""


@attrs.frozen
class Send:
    """Write this text on the present connection, after those before it."""

    text: str


@attrs.frozen
class Settle:
    """A request is over: answered, or failed."""

    request_id: str
    outcome: Message | ClientError


@attrs.frozen
class Heard:
    """There is something to take from a room, or it has ended."""

    room: str


@attrs.frozen
class TryAgain:
    """Call `try_again` after some seconds, if the connection still holds."""

    room: str
    after_seconds: float


@attrs.frozen
class ComeBack:
    """The server asks this client to connect anew after some seconds."""

    after_seconds: float


Effect: TypeAlias = Send | Settle | Heard | TryAgain | ComeBack
