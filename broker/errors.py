"""Errors and their codes, as a client, an operator or an embedding program sees them.

Two tables hold all codes that reach a client: `ErrorCode` (the connection stays open) and
`CloseCode` (it ends; the code's range says whether the client should reconnect). Errors of libraries are
mapped to these at the edge where they arise.
"""

from enum import IntEnum, StrEnum

import attrs


class ErrorCode(StrEnum):
    """The reason why one request was refused; the connection goes on."""

    INVALID_JSON = "invalid_json"
    INVALID_MESSAGE = "invalid_message"
    UNKNOWN_TYPE = "unknown_type"
    NOT_IN_ROOM = "not_in_room"
    FORBIDDEN = "forbidden"
    TOO_MANY_ROOMS = "too_many_rooms"
    ROOM_FULL = "room_full"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


class CloseCode(IntEnum):
    """The reason why a connection ended (RFC 6455 section 7.4).

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


class RefusalReason(StrEnum):
    """The reason why a peer or one of its requests was refused, as metrics and log lines name it.

    Besides these, the codes of `ErrorCode` are reasons too; `broker.refusals` counts both.
    """

    TLS_PLAIN = "tls_plain"
    TLS_VERSION = "tls_version"
    TLS_CIPHERS = "tls_ciphers"
    TLS_CLIENT_CERTIFICATE = "tls_client_certificate"
    TLS_NOT_TRUSTED = "tls_not_trusted"
    TLS_BROKEN = "tls_broken"
    TLS_TIMEOUT = "tls_timeout"
    BAD_HEAD = "bad_head"
    HEAD_TOO_LARGE = "head_too_large"
    HEAD_CUT_OFF = "head_cut_off"
    HEAD_TIMEOUT = "head_timeout"
    PROXY_HEADER = "proxy_header"
    HANDSHAKE = "handshake"
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    NODE_FULL = "node_full"
    ACCEPT_RATE = "accept_rate"
    ADDRESS_FULL = "address_full"
    USER_FULL = "user_full"
    USER_BYTES = "user_bytes"
    USER_ROOMS = "user_rooms"
    USER_ROOMS_UP = "user_rooms_up"
    USER_IDS = "user_ids"
    ANSWER_COST = "answer_cost"
    ROOMS_FULL = "rooms_full"
    ROOM_MEMBERS = "room_members"
    DRAINING = "draining"
    ORIGIN = "origin"
    ROOM = "room"
    TOKEN_MISSING = "token_missing"
    TOKEN_AMBIGUOUS = "token_ambiguous"
    TOKEN_MALFORMED = "token_malformed"
    TOKEN_KEY = "token_key"
    KEYS_AWAY = "keys_away"
    TOKEN_SIGNATURE = "token_signature"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_NOT_YET_VALID = "token_not_yet_valid"
    TOKEN_AUDIENCE = "token_audience"
    TOKEN_ISSUER = "token_issuer"
    TOKEN_CLAIM = "token_claim"
    TOKEN_OTHER_USER = "token_other_user"
    TOKEN_REVOKED = "token_revoked"
    REVOCATIONS_FULL = "revocations_full"
    HOOK = "hook"
    HOOK_AWAY = "hook_away"
    ROOM_ACTOR = "room_actor"
    ROOM_ACTOR_FAILED = "room_actor_failed"
    API_KEY_MISSING = "api_key_missing"
    API_KEY_WRONG = "api_key_wrong"
    API_KEY_SCOPE = "api_key_scope"
    CLIENT_CERTIFICATE = "client_certificate"
    TOO_MANY_MESSAGES = "too_many_messages"
    TOO_MANY_FRAMES = "too_many_frames"
    SLOW_READER = "slow_reader"
    NO_PONG = "no_pong"
    PROTOCOL = "protocol"
    HTTP = "http"


class GreenroomError(Exception):
    """The root of every error that this package raises on purpose."""


class ConfigurationError(GreenroomError):
    """The server cannot start as configured; the message names the setting and its allowed values."""


class StoppedAtOnceError(GreenroomError):
    """A second signal came during the drain; connections were cut."""


@attrs.frozen
class Refused(GreenroomError):
    """One request is refused and the connection goes on; becomes an `error` message or an HTTP problem."""

    code: ErrorCode
    message: str
    retry_after_ms: int | None = None
    why: RefusalReason | None = attrs.field(default=None, eq=False, kw_only=True)
    """The reason for metrics and log, where the code is not specific enough."""

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class NotPortable(Refused):
    """A message is JSON, but not every client could read it; over HTTP 422."""

    @classmethod
    def of(cls, message: str) -> "NotPortable":
        """Return the refusal; `message` begins with the field."""
        return cls(ErrorCode.INVALID_MESSAGE, message)


@attrs.frozen
class Disconnect(GreenroomError):
    """The connection must end with this code and reason (at most 123 bytes of UTF-8, RFC 6455 5.5)."""

    code: CloseCode
    reason: str
    why: RefusalReason | None = attrs.field(default=None, eq=False, kw_only=True)
    """The reason for metrics and log, where the code is not specific enough."""

    def __str__(self) -> str:
        return f"{int(self.code)} {self.reason}"


class EngineTrouble(StrEnum):
    """The kind of an engine's trouble, in the texts for clients and `/ready`."""

    UNAVAILABLE = "engine: unavailable"
    UNREACHABLE = "engine: cannot be reached"
    REFUSED = "engine: refuses the request"
    CANNOT_READ = "engine: cannot read"
    CANNOT_STORE = "engine: cannot store"
    FULL = "engine: cannot store: no space left"
    NOT_DELIVERING = "engine: does not deliver"
    NO_ANSWER = "engine: no answer in time; whether it was stored is not known"
    ROOM_FAILED = "the room failed; try again"
    ROOM_MOVED = "the room moves to another node; try again"
    NODE_NOT_REACHED = "a node cannot hear of it just now; repeat it"


class EngineUnavailableError(GreenroomError):
    """The engine cannot store or read now; nothing of the call was acknowledged.

    `detail`, also the text of the error, is for the log: it may hold addresses and texts of a library. Clients get
    `trouble` and nothing else. `since` is the start of the trouble in Unix seconds, if known.
    """

    def __init__(
        self,
        detail: str,
        *,
        trouble: EngineTrouble = EngineTrouble.UNAVAILABLE,
        since: float | None = None,
        retry_after_ms: int = 1000,
    ) -> None:
        super().__init__(detail)
        self.trouble = trouble
        self.since = since
        self.retry_after_ms = retry_after_ms

    def as_refused(self) -> Refused:
        """Return the refusal that a client gets."""
        return Refused(ErrorCode.UNAVAILABLE, self.trouble.value, self.retry_after_ms)
