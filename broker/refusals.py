"""Counts refused connections and requests of this node by reason, and logs some of them.

Each refusal is one call of `Refusals.note`: it always counts, and writes a line as long as the reason and the address
have lines left in the window. So strangers cannot fill a disk, and an operator still sees the reasons.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType

import trio

from broker.errors import CloseCode, Disconnect, ErrorCode, RefusalReason
from broker.log import Log
from broker.model import network_of

WINDOW_SECONDS = 10.0
LINES_PER_ADDRESS = 5
"""Lines for one address and one reason in a window."""
LINES_PER_REASON = 20
"""Lines for one reason in a window, over all addresses."""

OTHER = "other"
"""The label of close codes that neither RFC 6455 nor CloseCode has."""

CUT_OFF = "1006"
"""The label of connections that ended without a close frame (RFC 6455 section 7.1.5)."""

_STANDARD_CODES = frozenset({1000, 1001, 1002, 1003, 1005, 1006, *range(1007, 1015)})
_COUNTED_CODES = _STANDARD_CODES | {int(code) for code in CloseCode}

_REASON_OF_CODE: Mapping[CloseCode, RefusalReason | ErrorCode] = MappingProxyType(
    {
        CloseCode.PROTOCOL_ERROR: RefusalReason.PROTOCOL,
        CloseCode.BINARY_MESSAGE: RefusalReason.PROTOCOL,
        CloseCode.INVALID_UTF8: RefusalReason.PROTOCOL,
        CloseCode.MESSAGE_TOO_BIG: RefusalReason.PROTOCOL,
        CloseCode.TRY_AGAIN_LATER: ErrorCode.UNAVAILABLE,
        CloseCode.UNAUTHORIZED: RefusalReason.TOKEN_CLAIM,
        CloseCode.FORBIDDEN: RefusalReason.ROOM,
        CloseCode.TOKEN_EXPIRED: RefusalReason.TOKEN_EXPIRED,
        CloseCode.TOO_SLOW: RefusalReason.SLOW_READER,
        CloseCode.NO_PONG: RefusalReason.NO_PONG,
        CloseCode.TOO_MANY: RefusalReason.TOO_MANY_MESSAGES,
    }
)

_HELP: Mapping[str, str] = MappingProxyType(
    {
        RefusalReason.PROXY_HEADER: "server.proxy_protocol is set, so that each connection of a trusted proxy begins with a "
        "header of the PROXY protocol, version 2",
        RefusalReason.TLS_PLAIN: "use https:// or wss://: this port speaks TLS",
        RefusalReason.TLS_VERSION: "the client must speak TLS 1.2 or 1.3",
        RefusalReason.TLS_CIPHERS: "the client has no cipher, curve or signature for the server's key",
        RefusalReason.TLS_CLIENT_CERTIFICATE: "the client's certificate is not signed by one of server.tls_client_ca_file",
        RefusalReason.TLS_NOT_TRUSTED: "the client does not take the server's certificate: see its names, chain and expiry",
        RefusalReason.TLS_BROKEN: "the peer went away amid the TLS handshake, or does not speak TLS as it should",
        RefusalReason.TLS_TIMEOUT: "the client or the network is slow; see server.tls_handshake_seconds",
        RefusalReason.BAD_HEAD: "the peer does not speak HTTP/1.1, or speaks TLS to a port without it: see server.tls_cert_file",
        RefusalReason.HEAD_TOO_LARGE: "send smaller headers, or raise http.head_bytes",
        RefusalReason.HEAD_CUT_OFF: "the peer went away in the midst of its request",
        RefusalReason.HEAD_TIMEOUT: "send the request head sooner, or raise http.head_seconds",
        RefusalReason.HANDSHAKE: "the opening handshake must be as RFC 6455 section 4.1 has it",
        RefusalReason.HANDSHAKE_TIMEOUT: "the client or the network is slow; see websocket.handshake_seconds",
        RefusalReason.NODE_FULL: "raise limits.connections and ulimit -n, or add nodes",
        RefusalReason.ACCEPT_RATE: "raise limits.accepts_per_second or limits.accepts_burst, or add nodes",
        RefusalReason.ADDRESS_FULL: "raise limits.connections_per_address; behind a proxy, see server.trusted_proxies",
        RefusalReason.USER_BYTES: "send less, or raise limits.user_bytes_per_second and user_bytes_burst",
        RefusalReason.USER_ROOMS: "join fewer new rooms, or raise limits.user_rooms_per_second and user_rooms_burst",
        RefusalReason.USER_ROOMS_UP: "leave rooms that this user brought up, or raise limits.user_rooms",
        RefusalReason.USER_IDS: "send less with an id, or raise limits.ids_per_user",
        RefusalReason.ANSWER_COST: "ask for smaller pages, or raise limits.history_events_per_message or messages_burst",
        RefusalReason.ROOMS_FULL: "start another node, or raise limits.rooms",
        RefusalReason.ROOM_MEMBERS: "wait until a member has left, or raise max_members of the room's rule or of [room]",
        RefusalReason.USER_FULL: "close connections of this user, or raise limits.connections_per_user",
        RefusalReason.DRAINING: "the server is stopping: the client comes back to another or later",
        RefusalReason.ORIGIN: "add the page's origin to websocket.allowed_origins",
        RefusalReason.ROOM: "ask for a token that allows the room, and check the room rules",
        RefusalReason.TOKEN_MISSING: "send a token: ?token=, Authorization: Bearer, or subprotocol bearer.JWT",
        RefusalReason.TOKEN_AMBIGUOUS: "send one token, in one place",
        RefusalReason.TOKEN_MALFORMED: "the token is not a JWT as RFC 7519 has it",
        RefusalReason.TOKEN_KEY: "sign with an algorithm of auth.algorithms and a key that the server has",
        RefusalReason.KEYS_AWAY: "the client comes back; see token keys not fetched in the log",
        RefusalReason.TOKEN_SIGNATURE: "sign with the same secret or key pair as the server's",
        RefusalReason.TOKEN_EXPIRED: "ask for a new token before each connection; check clocks, auth.leeway_seconds",
        RefusalReason.TOKEN_NOT_YET_VALID: "check the clocks of both machines, or raise auth.leeway_seconds",
        RefusalReason.TOKEN_AUDIENCE: "let aud of the token and auth.audience be the same",
        RefusalReason.TOKEN_ISSUER: "let iss of the token and auth.issuer be the same",
        RefusalReason.TOKEN_CLAIM: "mend the claim that the detail names",
        RefusalReason.TOKEN_OTHER_USER: "refresh with a token of the same sub",
        RefusalReason.TOKEN_REVOKED: "the application took the token back: its user has to sign in again",
        RefusalReason.REVOCATIONS_FULL: "give revocations an expires_at no later than the exp of the tokens",
        RefusalReason.HOOK: "the application refused it: see the answer of its hook",
        RefusalReason.HOOK_AWAY: "see hook away and hook failed in the log",
        RefusalReason.ROOM_ACTOR: "the room's code refused it: see its Refusal",
        RefusalReason.ROOM_ACTOR_FAILED: "see room failed in the log, and mend the room's code",
        RefusalReason.API_KEY_MISSING: "send Authorization: Bearer with the API key",
        RefusalReason.API_KEY_WRONG: "let the notifier have the server's GREENROOM_API_KEY",
        RefusalReason.API_KEY_SCOPE: "give the key of that name the scope, in [[http.api_keys]]",
        RefusalReason.CLIENT_CERTIFICATE: "present a certificate signed by one of server.tls_client_ca_file",
        RefusalReason.TOO_MANY_MESSAGES: "send less, or raise limits.messages_per_second",
        RefusalReason.TOO_MANY_FRAMES: "send fewer fragments, pings and pongs",
        RefusalReason.SLOW_READER: "the client or its network is slow; see websocket.outbox_bytes and slow_reader",
        RefusalReason.NO_PONG: "the client is gone or stands still; see websocket.ping_seconds and pong_seconds",
        RefusalReason.PROTOCOL: "the client must send text frames as RFC 6455 has them, within websocket.message_bytes",
        RefusalReason.HTTP: "see the status and the route, and /openapi.json",
        ErrorCode.INVALID_JSON: "send one JSON object in UTF-8",
        ErrorCode.INVALID_MESSAGE: "the client was told the field that is wrong",
        ErrorCode.UNKNOWN_TYPE: "the client and the server may be of different versions",
        ErrorCode.NOT_IN_ROOM: "join the room first",
        ErrorCode.FORBIDDEN: "ask for a token (claims can, rooms) or a key (scopes) that allows it, and check the room rules",
        ErrorCode.TOO_MANY_ROOMS: "leave rooms, or raise limits.rooms_per_connection",
        ErrorCode.ROOM_FULL: "see the answer of the application",
        ErrorCode.RATE_LIMITED: "send less, or raise limits.messages_per_second and messages_burst",
        ErrorCode.UNAVAILABLE: "see /ready for what the engine lacks",
        ErrorCode.FAILED: "see room failed in the log, and mend the room's code",
    }
)


def reason_of(ending: Disconnect) -> RefusalReason | ErrorCode | None:
    """Return the refusal that an ending stands for; None if it is an ordinary end."""
    return ending.why or _REASON_OF_CODE.get(ending.code)


class Refusals:
    """Owns the counters of refusals and closes, and limits the log lines of refusals."""

    def __init__(self, log: Log, *, clock: Callable[[], float] = trio.current_time) -> None:
        """`clock` returns seconds and is monotonic."""
        self._log = log
        self._clock = clock
        self._refusals: Counter[str] = Counter()
        self._closes: Counter[str] = Counter()
        self._window_end = float("-inf")
        # Lines of this window by reason and address: no more entries than lines.
        self._lines: Counter[tuple[str, str]] = Counter()
        self._not_logged: Counter[str] = Counter()

    @property
    def counts(self) -> Mapping[str, int]:
        """Numbers of refusals by reason; the reasons are those of `RefusalReason` and `ErrorCode`."""
        return self._refusals

    @property
    def closes(self) -> Mapping[str, int]:
        """Numbers of ended connections by close code."""
        return self._closes

    def note(
        self, why: RefusalReason | ErrorCode, address: str | None, *, event: str = "refused", **fields: object
    ) -> None:
        """Count one refusal, and log it within the limits of lines. Never waits, never raises.

        `fields` must hold no text that a peer chose freely, such as a token, a message or a path.
        """
        self._refusals[why] += 1
        if not self._may_log(why, "" if address is None else address):
            self._not_logged[why] += 1
            return
        self._log.info(
            event, why=why.value, address=address, **fields, help=_HELP.get(why), **self._missed(why)
        )

    def log_failure(self, event: str, address: str | None, error: BaseException, **fields: object) -> None:
        """Log a fault of ours with its traceback, as often as one reason is logged: a peer may know how to cause it.

        It is no refusal, and is not counted as one.
        """
        if not self._may_log(event, "" if address is None else address):
            self._not_logged[event] += 1
            return
        self._log.error(event, address=address, exc_info=error, **fields, **self._missed(event))

    def note_ending(self, ending: Disconnect, address: str | None, *, user_id: str | None = None) -> None:
        """Note the refusal that `ending` stands for, if any: most closes by clients are none."""
        why = reason_of(ending)
        if why is not None:
            self.note(why, address, code=int(ending.code), detail=ending.reason, user_id=user_id)

    def count_close(self, code: int | None) -> None:
        """Count an ended connection by the close code of either side; None if neither sent one."""
        if code is None:
            self._closes[CUT_OFF] += 1
        else:
            self._closes[str(int(code)) if code in _COUNTED_CODES else OTHER] += 1

    def _missed(self, why: str) -> dict[str, int]:
        """Return the field that tells how many lines of a reason were left out since its last one."""
        missed = self._not_logged.pop(why, 0)
        return {"not_logged": missed} if missed else {}

    def _may_log(self, why: str, address: str) -> bool:
        now = self._clock()
        if now >= self._window_end:
            self._window_end = now + WINDOW_SECONDS
            self._lines.clear()
        total, own = (why, ""), (why, f"of {network_of(address)}")
        if self._lines[total] >= LINES_PER_REASON or self._lines[own] >= LINES_PER_ADDRESS:
            return False
        self._lines[total] += 1
        self._lines[own] += 1
        return True
