"""The meanings of error and close codes, as the documents give them."""

from collections.abc import Mapping
from types import MappingProxyType

from broker.errors import CloseCode, ErrorCode

ERROR_MEANINGS: Mapping[ErrorCode, str] = MappingProxyType(
    {
        ErrorCode.INVALID_JSON: "the text is not JSON",
        ErrorCode.INVALID_MESSAGE: "a field is missing or wrong; `message` names it and its rule",
        ErrorCode.UNKNOWN_TYPE: "the server knows no request of this type",
        ErrorCode.NOT_IN_ROOM: "the connection is not in the room",
        ErrorCode.FORBIDDEN: "the token, the room rules or the application do not allow it",
        ErrorCode.TOO_MANY_ROOMS: "the connection is in as many rooms as it may be; leave one first",
        ErrorCode.ROOM_FULL: "the room has as many members as it may have; there is space once one has left",
        ErrorCode.RATE_LIMITED: "over a limit; send it again after `retry_after_ms`",
        ErrorCode.UNAVAILABLE: "the engine, the node or the application cannot serve it now; send it again after `retry_after_ms`",
        ErrorCode.FAILED: "the code of the room failed, and nothing was done; it is in the server's log",
    }
)

CLOSE_MEANINGS: Mapping[CloseCode, str] = MappingProxyType(
    {
        CloseCode.NORMAL: "closed by the client",
        CloseCode.GOING_AWAY: "going away",
        CloseCode.PROTOCOL_ERROR: "protocol error",
        CloseCode.BINARY_MESSAGE: "a binary message; messages are text",
        CloseCode.INVALID_UTF8: "a text that is not UTF-8",
        CloseCode.MESSAGE_TOO_BIG: "a message over `websocket.message_bytes`",
        CloseCode.INTERNAL_ERROR: "a fault of the server",
        CloseCode.SERVICE_RESTART: "service restart; follows `reconnect`",
        CloseCode.TRY_AGAIN_LATER: "the engine, the node or the application cannot serve it now",
        CloseCode.UNAUTHORIZED: "the token is missing or not accepted; after a reason that begins with `token has expired` or "
        "`token is not valid yet`, another token may be",
        CloseCode.FORBIDDEN: "the token or the application does not allow the room of the address, its name is not allowed, or the origin is not",
        CloseCode.REMOVED: "removed by the application",
        CloseCode.TOKEN_EXPIRED: "the token expired during the connection",
        CloseCode.TOO_SLOW: "reads too slowly",
        CloseCode.NO_PONG: "silent, and no pong in time",
        CloseCode.TOO_MANY: "too many messages, rooms, members of a room or connections",
    }
)


def is_final(code: CloseCode) -> bool:
    """Whether a client must not reconnect after `code`."""
    return code is CloseCode.NORMAL or CloseCode.UNAUTHORIZED <= code < CloseCode.TOKEN_EXPIRED
