"""The effects that the pure core asks the client to carry out."""

from typing import Any, TypeAlias

import attrs

from broker.client.errors import ClientError

Message: TypeAlias = dict[str, Any]
"""A message of the protocol, as decoded JSON."""


@attrs.frozen
class Send:
    """Write this text on the present connection, in order."""

    text: str


@attrs.frozen
class Settle:
    """End a request with its answer or error."""

    request_id: str
    outcome: Message | ClientError


@attrs.frozen
class RoomChanged:
    """Wake the readers of a room: it has messages, has been joined, or has ended."""

    room: str


@attrs.frozen
class RetryLater:
    """Call `retry` after some seconds, if the connection still holds."""

    room: str
    after_seconds: float


@attrs.frozen
class ReconnectLater:
    """Reconnect after some seconds, as the server asks."""

    after_seconds: float


@attrs.frozen
class Refreshed:
    """Note that the server has accepted a token.

    `expires_at` is Unix seconds, `seconds_left` counts from now by the server's clock; None if it does not expire.
    """

    expires_at: float | None
    seconds_left: float | None


Effect: TypeAlias = Send | Settle | RoomChanged | RetryLater | ReconnectLater | Refreshed
