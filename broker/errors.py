"""What can go wrong, as a client, an operator or an embedding program sees it.

Two tables decide everything that reaches a client: `ErrorCode` (the connection stays open) and
`CloseCode` (it ends; the code's range tells the client whether to come back). Errors of libraries are
mapped to these at the edge where they arise.
"""

from enum import IntEnum, StrEnum

import attrs


class ErrorCode(StrEnum):
    """Why one request was refused; the connection goes on."""

    INVALID_JSON = "invalid_json"
    INVALID_MESSAGE = "invalid_message"
    UNKNOWN_TYPE = "unknown_type"
    NOT_IN_ROOM = "not_in_room"
    FORBIDDEN = "forbidden"
    TOO_MANY_ROOMS = "too_many_rooms"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"


class CloseCode(IntEnum):
    """Why a connection ended (RFC 6455 section 7.4).

    40xx: the client must not reconnect. 41xx and all below 4000 but 1000: it should, with backoff.
    """

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    BINARY_MESSAGE = 1003
    INVALID_UTF8 = 1007
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    UNAUTHORIZED = 4001
    FORBIDDEN = 4003
    REMOVED = 4004
    TOKEN_EXPIRED = 4101
    TOO_SLOW = 4108
    NO_PONG = 4110
    TOO_MANY = 4129


class GreenroomError(Exception):
    """The root of every error that this package raises on purpose."""


class ConfigurationError(GreenroomError):
    """The server cannot start as configured; the message names the place and what is allowed there."""


class StoppedAtOnceError(GreenroomError):
    """A second signal came during the drain; connections were cut."""


@attrs.frozen
class Refused(GreenroomError):
    """One request is refused and the connection goes on; becomes an `error` message or an HTTP problem."""

    code: ErrorCode
    message: str
    retry_after_ms: int | None = None

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


@attrs.frozen
class Disconnect(GreenroomError):
    """The connection must end with this code and reason (at most 123 bytes of UTF-8, RFC 6455 5.5)."""

    code: CloseCode
    reason: str

    def __str__(self) -> str:
        return f"{int(self.code)} {self.reason}"


class EngineUnavailableError(GreenroomError):
    """The engine cannot store or read just now; nothing of the call was acknowledged."""

    def __init__(self, message: str, *, retry_after_ms: int = 1000) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms
