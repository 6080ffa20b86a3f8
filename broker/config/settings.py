"""Every setting, with its meaning, unit, bounds and default.

The structs are plain values: `broker.config.load` fills them from file, environment and flags.
The text of each field is what `greenroom config show` prints beside it.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from broker.config.keys import SECRETS

Bytes = Annotated[int, Meta(ge=1, le=1 << 30)]
Count = Annotated[int, Meta(ge=1, le=10_000_000)]
CountOrNone = Annotated[int, Meta(ge=0, le=10_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
SecondsOrNone = Annotated[float, Meta(ge=0, le=366 * 86_400)]

Algorithm = Literal["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"]


_SECRET_NAMES = frozenset(dotted.rpartition(".")[2] for dotted in SECRETS)


def _doc(text: str) -> Meta:
    return Meta(description=text)


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the configuration."""

    def __repr__(self) -> str:
        """Show all but the secrets."""
        shown = [
            f"{name}={getattr(self, name)!r}"
            for name in self.__struct_fields__
            # The engine's URL may hold a password.
            if name not in _SECRET_NAMES | {"engine"}
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


UNIX_PREFIX = "unix:"
UNIX_PEER = "unix"
"""Stands for the address of every peer that comes by a Unix socket."""
"""Begins a `server.host` that is the path of a Unix socket."""


class ServerSettings(Section, frozen=True):
    """The address, the engine and the lifetime of the server."""

    host: Annotated[
        str, _doc("address or name to listen on, or unix:PATH; :: is every address, of IPv4 too")
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535), _doc("TCP port; 0 takes a free one")] = 8000
    socket_mode: Annotated[
        str, Meta(pattern="^[0-7]{3}$"), _doc("rights of a Unix socket, octal: who may connect")
    ] = "660"
    trusted_proxies: Annotated[
        tuple[str, ...],
        _doc(
            "addresses and networks of proxies that are believed about their clients; unix is any by a Unix socket"
        ),
    ] = ()
    forwarded_header: Annotated[
        Literal["x-forwarded-for", "forwarded"], _doc("the header in which trusted proxies name the client")
    ] = "x-forwarded-for"
    proxy_protocol: Annotated[
        bool, _doc("each connection of a trusted proxy begins with a header of the PROXY protocol, version 2")
    ] = False
    tls_cert_file: Annotated[
        str | None,
        _doc("PEM certificate, with those that signed it; with one the port speaks TLS and nothing else"),
    ] = None
    tls_key_file: Annotated[str | None, _doc("PEM private key of tls_cert_file")] = None
    tls_client_ca_file: Annotated[
        str | None,
        _doc("PEM certificates; calls below /api need a client certificate that one of these has signed"),
    ] = None
    tls_handshake_seconds: Annotated[Seconds, _doc("how long a TLS handshake may take")] = 10.0
    node_name: Annotated[
        str | None, _doc("name of this machine in metrics and the console; not set: its host name")
    ] = None
    engine: Annotated[str, _doc("memory://, sqlite:///PATH, redis://HOST:PORT/DB or rediss://")] = "memory://"
    backlog: Annotated[
        Count, _doc("connections the kernel holds until they are accepted; at most net.core.somaxconn")
    ] = 4096
    drain_seconds: Annotated[
        float, Meta(ge=0, le=3600), _doc("over how long a stopping server sends its clients away")
    ] = 10.0
    worker_silence_seconds: Annotated[
        float,
        Meta(ge=1, le=86_400),
        _doc("how long the event loop of one of several workers may stand still before it is killed"),
    ] = 30.0


class IssuerSettings(Section, frozen=True):
    """One issuer of client tokens among several, chosen by a token's `iss`, with keys and claims of its own."""

    issuer: Annotated[str, Meta(min_length=1), _doc("iss of its tokens")]
    secret: Annotated[str | None, _doc("key of its HS256/384/512 tokens, at least 32 bytes")] = None
    previous_secret: Annotated[
        str | None, _doc("verifies its tokens as secret does: the old one while it is replaced")
    ] = None
    algorithms: Annotated[
        tuple[Algorithm, ...], Meta(min_length=1), _doc("the only signature algorithms accepted of it")
    ] = ("RS256",)
    public_key_file: Annotated[str | None, _doc("PEM public key of its tokens")] = None
    jwks_file: Annotated[str | None, _doc("JSON Web Key Set of its tokens")] = None
    jwks_url: Annotated[str | None, _doc("address of its JSON Web Key Set, as auth.jwks_url")] = None
    discovery: Annotated[bool, _doc("find its key set by the metadata of issuer")] = False
    audience: Annotated[str | None, _doc("aud that its tokens must carry")] = None
    authorized_parties: Annotated[
        tuple[str, ...], _doc("azp that its tokens must carry one of; none: any or none")
    ] = ()
    user_claim: Annotated[str, Meta(min_length=1), _doc("claim with the user's id")] = "sub"
    rooms_claim: Annotated[
        str,
        Meta(min_length=1),
        _doc("claim used as rooms; a.b is b in the object a, if there is no claim a.b"),
    ] = "rooms"
    can_claim: Annotated[str, Meta(min_length=1), _doc("claim used as can, likewise")] = "can"


class AuthSettings(Section, frozen=True):
    """The keys and claims of client tokens."""

    secret: Annotated[
        str | None, _doc("key of HS256/384/512 tokens, at least 32 bytes (GREENROOM_SECRET)")
    ] = None
    previous_secret: Annotated[
        str | None, _doc("verifies tokens as secret does, and signs none: the old one while it is replaced")
    ] = None
    algorithms: Annotated[
        tuple[Algorithm, ...], Meta(min_length=1), _doc("the only signature algorithms accepted")
    ] = ("HS256",)
    public_key_file: Annotated[str | None, _doc("PEM public key of RS*, ES* or EdDSA tokens")] = None
    jwks_file: Annotated[str | None, _doc("JSON Web Key Set; the token's kid chooses the key")] = None
    jwks_url: Annotated[
        str | None, _doc("address of a JSON Web Key Set, which is fetched again before its age")
    ] = None
    discovery: Annotated[
        bool, _doc("find the key set by the metadata of auth.issuer (OpenID Connect Discovery)")
    ] = False
    audience: Annotated[str | None, _doc("aud that a token must carry")] = None
    issuer: Annotated[str | None, _doc("iss that a token must carry")] = None
    issuers: Annotated[
        tuple[IssuerSettings, ...], _doc("more issuers, each with keys of its own: see [[auth.issuers]]")
    ] = ()
    leeway_seconds: Annotated[float, Meta(ge=0, le=300), _doc("clock difference forgiven in exp and nbf")] = (
        0.0
    )
    info_bytes: Annotated[
        int,
        Meta(ge=0, le=8192),
        _doc("most JSON in a token's info, which other members are shown; 0: no info"),
    ] = 1024
    cookie: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")] | None,
        _doc("cookie with a token, for pages of websocket.allowed_origins, which must then be listed"),
    ] = None
    revocation_seconds: Annotated[
        float,
        Meta(gt=0, le=3660 * 86_400),
        _doc("how long a revocation holds that names no end: the longest that your tokens live"),
    ] = 2_592_000.0
    private_user_rooms: Annotated[bool, _doc("a room user_{id} is only for the user whose sub is {id}")] = (
        True
    )


class ApiKeySettings(Section, frozen=True):
    """A named key of the HTTP API that may do only what its scopes say."""

    name: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$"), _doc("names the key in the log and in refusals")
    ]
    scopes: Annotated[
        tuple[str, ...],
        Meta(min_length=1, max_length=100),
        _doc("publish, read, admin; publish:PATTERN and read:PATTERN are for the rooms of a pattern"),
    ]
    key: Annotated[str | None, _doc("what the caller presents as bearer token")] = None
    previous_key: Annotated[str | None, _doc("is accepted as key is: the old one while it is replaced")] = (
        None
    )


class HttpSettings(Section, frozen=True):
    """The HTTP API."""

    api_key: Annotated[
        str | None, _doc("what HTTP notifiers present as bearer token (GREENROOM_API_KEY)")
    ] = None
    previous_api_key: Annotated[
        str | None, _doc("is accepted as api_key is: the old one while it is replaced")
    ] = None
    api_keys: Annotated[
        tuple[ApiKeySettings, ...], _doc("more keys, each with a name and scopes: see [[http.api_keys]]")
    ] = ()
    metrics_key: Annotated[
        str | None, _doc("bearer token asked for at /metrics (GREENROOM_METRICS_KEY); unset: open to all")
    ] = None
    previous_metrics_key: Annotated[
        str | None, _doc("is accepted as metrics_key is: the old one while it is replaced")
    ] = None
    body_bytes: Annotated[Bytes, _doc("largest body of one request, and of one NDJSON line")] = 65_536
    cors_origins: Annotated[tuple[str, ...], _doc("origins of pages allowed to call the API; * is any")] = ()
    keep_alive_seconds: Annotated[Seconds, _doc("how long an idle HTTP connection is kept")] = 75.0
    request_seconds: Annotated[Seconds, _doc("longest a request may take to arrive or be answered")] = 60.0
    nodes_seconds: Annotated[
        Seconds, _doc("how long an answer that tells of all nodes waits for the others")
    ] = 1.0
    head_bytes: Annotated[Bytes, _doc("largest request head: request line and headers")] = 16_384
    head_seconds: Annotated[Seconds, _doc("how long a client may take to send a request head")] = 10.0


class WebSocketSettings(Section, frozen=True):
    """WebSocket connections."""

    allowed_origins: Annotated[
        tuple[str, ...], _doc("origins of pages allowed to connect, such as https://app.example; * is any")
    ] = ("*",)
    message_bytes: Annotated[Bytes, _doc("largest message a client may send")] = 65_536
    handshake_seconds: Annotated[Seconds, _doc("how long the opening handshake may take")] = 10.0
    close_seconds: Annotated[Seconds, _doc("how long the closing handshake may take")] = 5.0
    compression: Annotated[
        bool,
        _doc("agree on permessage-deflate with clients that offer it; each event is compressed once for all"),
    ] = False
    compression_min_bytes: Annotated[Bytes, _doc("smaller messages are sent as they are")] = 256
    compression_level: Annotated[int, Meta(ge=1, le=9), _doc("1 is the quickest, 9 the smallest")] = 1
    ping_seconds: Annotated[Seconds, _doc("silence after which a client is pinged")] = 25.0
    pong_seconds: Annotated[Seconds, _doc("how long a pinged client may stay silent")] = 20.0
    outbox_bytes: Annotated[Bytes, _doc("what may wait to be sent to one connection")] = 1_048_576
    slow_reader: Annotated[
        Literal["disconnect", "drop"], _doc("past outbox_bytes: close with 4108, or drop events and say gap")
    ] = "disconnect"


class LimitSettings(Section, frozen=True):
    """Limits of a client, a user, an address and the node."""

    connections: Annotated[Count, _doc("connections of the whole node")] = 100_000
    connections_per_user: Annotated[Count, _doc("WebSocket connections of one user")] = 100
    connections_per_address: Annotated[Count, _doc("connections of one IPv4 address, or of one IPv6 /64")] = (
        10_000
    )
    accepts_per_second: Annotated[
        Annotated[float, Meta(gt=0, le=1_000_000)] | None,
        _doc("sustained rate of new connections of the node; further ones get 503 before anything is read"),
    ] = None
    accepts_burst: Annotated[Count, _doc("new connections that may come at once above that rate")] = 1000
    rooms_per_connection: Annotated[Count, _doc("rooms that one connection may be in")] = 100
    rooms: Annotated[
        Count, _doc("rooms up on the node; at the limit, idle ones are put away before their time")
    ] = 200_000
    user_rooms_per_second: Annotated[
        float, Meta(gt=0, le=1_000_000), _doc("sustained rate at which one user may bring up rooms")
    ] = 1.0
    user_rooms_burst: Annotated[Count, _doc("rooms that one user may bring up at once above that rate")] = 200
    user_rooms: Annotated[
        Count | None, _doc("rooms up at a time that one user's joins brought up; by default any number")
    ] = None
    user_bytes_per_second: Annotated[
        float,
        Meta(gt=0, le=1 << 40),
        _doc("sustained rate of one user's messages over all connections; each counts 256 bytes more"),
    ] = 65_536.0
    user_bytes_burst: Annotated[Bytes, _doc("bytes of one user that may come at once above that rate")] = (
        4_194_304
    )
    ids_per_user: Annotated[
        Count, _doc("messages with an id of one user within history.idempotency_seconds")
    ] = 30_000
    messages_per_second: Annotated[
        float, Meta(gt=0, le=1_000_000), _doc("sustained rate of messages from one connection")
    ] = 50.0
    messages_burst: Annotated[Count, _doc("messages that may come at once above that rate")] = 200
    history_events_per_message: Annotated[
        Count, _doc("events that a client's history or last asks for, which count as one message more")
    ] = 100
    refused_burst: Annotated[
        Count, _doc("messages refused, beyond twice messages_per_second, before closing with 4129")
    ] = 200
    text_characters: Annotated[Count, _doc("a chat text is cut to this length")] = 500
    state_bytes: Annotated[
        int,
        Meta(ge=0, le=65_536),
        _doc("most JSON that a connection may show of itself in a room (set_state)"),
    ] = 1024
    outbox_total_bytes: Annotated[
        int,
        Meta(ge=1, le=1 << 50),
        _doc("what may wait in all outboxes together; past it the slowest readers go first, see slow_reader"),
    ] = 268_435_456
    room_state_bytes: Annotated[
        Bytes, _doc("most JSON that the state of a room with code of its own may have (serve --rooms)")
    ] = 262_144
    mailbox_messages: Annotated[Count, _doc("what may wait in a room's inbox before its senders wait")] = 1024


class HistorySettings(Section, frozen=True):
    """How much of a room is kept for recovery, unless a room rule overrides it. 0 keeps none."""

    messages: Annotated[CountOrNone, _doc("events kept of a room")] = 1000
    bytes: Annotated[int, Meta(ge=0, le=1 << 30), _doc("bytes of events kept of a room")] = 1_048_576
    age_seconds: Annotated[SecondsOrNone, _doc("how long an event is kept")] = 86_400.0
    total_bytes: Annotated[
        int,
        Meta(ge=1, le=1 << 50),
        _doc("memory:// only: all histories together; past it the longest idle rooms are forgotten"),
    ] = 536_870_912
    page_messages: Annotated[Count, _doc("most events in one answer")] = 1000
    page_bytes: Annotated[Bytes, _doc("most bytes of events in one answer; an event alone may be larger")] = (
        524_288
    )
    recovery_bytes: Annotated[Bytes, _doc("most of what a client missed that one join sends")] = 8_388_608
    idempotency_seconds: Annotated[
        Seconds, _doc("how long the same id or Idempotency-Key is stored once")
    ] = 300.0
    user_answers_bytes: Annotated[
        Bytes,
        _doc(
            "answers of one user's calls with an id that rooms with code store for that long; services are one"
        ),
    ] = 8_388_608
    answers_bytes: Annotated[
        int,
        Meta(ge=1, le=1 << 50),
        _doc(
            "the same of all users of a node; an answer past either is not kept, and its repetition refused"
        ),
    ] = 134_217_728


class SqliteSettings(Section, frozen=True):
    """The engine sqlite:///PATH."""

    synchronous: Annotated[
        Literal["full", "normal", "off"],
        _doc("full: outlives power loss; normal: kill -9, and power loss but for the last; off: kill -9"),
    ] = "full"
    witness_directory: Annotated[
        str,
        Meta(min_length=1),
        _doc("where it is noted how far the file got; never restored with it, and kept over restarts"),
    ] = "/dev/shm"  # noqa: S108  # names in it cannot be guessed


class RedisSettings(Section, frozen=True):
    """The engine redis://HOST:PORT/DB and rediss://."""

    prefix: Annotated[
        str,
        Meta(pattern=r"^[\w.:-]{1,64}$"),
        _doc("begins the name of every key and channel; nodes that share rooms have the same"),
    ] = "greenroom"
    password: Annotated[
        str | None, _doc("password at every server, where server.engine has none (GREENROOM_REDIS_PASSWORD)")
    ] = None
    ca_file: Annotated[
        str | None,
        _doc("PEM certificates that a rediss:// server's must be signed by; not set: the system's"),
    ] = None
    timeout_seconds: Annotated[
        Seconds, _doc("silence after which a server is taken to be lost, also when connecting")
    ] = 3.0
    probe_seconds: Annotated[Seconds, _doc("how often a node sends itself something through each server")] = (
        1.0
    )
    lease_seconds: Annotated[
        float,
        Meta(ge=1, le=3600),
        _doc("silence after which a node is taken to be dead, and its users to have left"),
    ] = 10.0
    pending_bytes: Annotated[Bytes, _doc("what may wait for one server's answers before more is sent")] = (
        67_108_864
    )


class RoomSettings(Section, frozen=True):
    """Rooms at large."""

    gather_above: Annotated[CountOrNone, _doc("room size above which joins and leaves are gathered")] = 100
    gather_seconds: Annotated[Seconds, _doc("how often gathered joins and leaves are sent")] = 1.0
    presence_data: Annotated[
        bool, _doc("members are shown each other's info and state; for huge rooms, names alone cost less")
    ] = True
    max_members: Annotated[
        Count | None,
        _doc("members of one room, counted as connections; further joins are refused with room_full"),
    ] = None
    idle_seconds: Annotated[Seconds, _doc("how long an empty room stays in memory")] = 60.0


class LogSettings(Section, frozen=True):
    """The log, on standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], _doc("least level printed")] = "info"
    format: Annotated[
        Literal["auto", "human", "json"], _doc("auto: human on a terminal, else JSON lines")
    ] = "auto"


class RoomRule(Section, frozen=True):
    """Settings of the rooms whose name matches `pattern`; the first rule that matches wins.

    `*` stands for any run of characters.
    """

    pattern: Annotated[
        str, Meta(min_length=1, max_length=128), _doc("room names; * is any run of characters")
    ]
    access: Annotated[
        Literal["any", "token", "none"],
        _doc("any: every user; token: only tokens whose rooms name it; none: only the HTTP API"),
    ] = "any"
    presence_data: Annotated[bool | None, _doc("instead of room.presence_data")] = None
    max_members: Annotated[Count | None, _doc("instead of room.max_members")] = None
    slow_reader: Annotated[
        Literal["disconnect", "drop", "latest"] | None,
        _doc("instead of websocket.slow_reader; latest: send only the newest of alike events, and say gap"),
    ] = None
    history_messages: Annotated[CountOrNone | None, _doc("instead of history.messages")] = None
    history_bytes: Annotated[
        Annotated[int, Meta(ge=0, le=1 << 30)] | None, _doc("instead of history.bytes")
    ] = None
    history_age_seconds: Annotated[SecondsOrNone | None, _doc("instead of history.age_seconds")] = None


WebhookKind = Literal[
    "message", "user_joined", "user_left", "room_occupied", "room_vacated", "user_online", "user_offline"
]


class TraceSettings(Section, frozen=True):
    """Traces of publishes by OpenTelemetry, sent by OTLP over HTTP; they need the extra `traces`."""

    enabled: Annotated[bool, _doc("trace publishes of the HTTP API and of hooks to the fan-out")] = False
    endpoint: Annotated[
        Annotated[str, Meta(pattern=r"^https?://[^\s]+$")] | None,
        _doc("where spans go, such as http://collector:4318/v1/traces; else as OTEL_EXPORTER_OTLP_* say"),
    ] = None
    sample_ratio: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None,
        _doc(
            "share of the traces that begin here; those of a caller as it says; else as OTEL_TRACES_SAMPLER"
        ),
    ] = None
    service_name: Annotated[
        Annotated[str, Meta(min_length=1, max_length=128)] | None,
        _doc("service.name of the spans; else OTEL_SERVICE_NAME, or greenroom"),
    ] = None


Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")]
"""The name of a header or a cookie (RFC 9110 section 5.6.2)."""


class HookSettings(Section, frozen=True):
    """An address of the application that decides who may connect, join and publish, and answers calls."""

    on: Annotated[
        tuple[Literal["connect", "join", "publish", "call"], ...],
        Meta(min_length=1),
        _doc("steps of clients that it decides about; the first hook for a step and a room decides"),
    ]
    url: Annotated[str, Meta(min_length=1), _doc("where each question is posted to")]
    secret: Annotated[
        str | None, _doc("signs each question: whsec_ and the base64 of 24 to 64 random bytes")
    ] = None
    previous_secret: Annotated[
        str | None, _doc("signs each question as well: the old one while it is replaced")
    ] = None
    rooms: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=128)], ...],
        Meta(min_length=1, max_length=100),
        _doc("rooms that it decides about, not for connect; * is any run of characters"),
    ] = ("*",)
    timeout_seconds: Annotated[
        float, Meta(gt=0, le=60), _doc("longest that a client waits for an answer, in the queue too")
    ] = 2.0
    concurrency: Annotated[int, Meta(ge=1, le=1000), _doc("questions on their way at once")] = 16
    queue: Annotated[
        int, Meta(ge=0, le=100_000), _doc("questions that wait for their turn; further ones are not asked")
    ] = 256
    headers: Annotated[tuple[Name, ...], _doc("headers of the client's handshake that are passed on")] = ()
    cookies: Annotated[tuple[Name, ...], _doc("cookies of the client's handshake that are passed on")] = ()
    when_away: Annotated[
        Literal["refuse", "allow"],
        _doc(
            "while the application does not answer: clients get unavailable, or are let through but for calls"
        ),
    ] = "refuse"


class WebhookSettings(Section, frozen=True):
    """An address of the application that is told of what happened, in batches and in order."""

    name: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$"),
        _doc("names its queue; another name is another queue"),
    ]
    url: Annotated[str, Meta(min_length=1), _doc("where batches are posted to")]
    secret: Annotated[
        str | None, _doc("signs each request: whsec_ and the base64 of 24 to 64 random bytes")
    ] = None
    previous_secret: Annotated[
        str | None, _doc("signs each request as well: the old one while it is replaced")
    ] = None
    kinds: Annotated[tuple[WebhookKind, ...], Meta(min_length=1), _doc("kinds of entries that it gets")] = (
        "user_joined",
        "user_left",
        "room_occupied",
        "room_vacated",
        "user_online",
        "user_offline",
    )
    rooms: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=128)], ...],
        Meta(min_length=1, max_length=100),
        _doc("rooms that it is told of; * is any run of characters"),
    ] = ("*",)
    hold_back_seconds: Annotated[
        float,
        Meta(ge=0, le=3600),
        _doc("user_left, user_offline and room_vacated wait so long, and are no event if all is as before"),
    ] = 5.0
    batch: Annotated[int, Meta(ge=1, le=1000), _doc("most entries in a request")] = 50
    timeout_seconds: Annotated[
        float, Meta(gt=0, le=300), _doc("longest a request may take to be answered")
    ] = 10.0
    give_up_seconds: Annotated[
        float, Meta(gt=0, le=366 * 86_400), _doc("age at which an entry that is not taken is put aside")
    ] = 86_400.0


class Settings(Section, frozen=True):
    """The whole configuration."""

    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    http: HttpSettings = HttpSettings()
    websocket: WebSocketSettings = WebSocketSettings()
    limits: LimitSettings = LimitSettings()
    history: HistorySettings = HistorySettings()
    sqlite: SqliteSettings = SqliteSettings()
    redis: RedisSettings = RedisSettings()
    room: RoomSettings = RoomSettings()
    log: LogSettings = LogSettings()
    traces: TraceSettings = TraceSettings()
    rooms: Annotated[tuple[RoomRule, ...], _doc("room rules, first match wins")] = ()
    hooks: Annotated[
        tuple[HookSettings, ...], _doc("addresses that decide what clients may do: see [[hooks]]")
    ] = ()
    webhooks: Annotated[
        tuple[WebhookSettings, ...], Meta(max_length=100), _doc("addresses that are told of what happened")
    ] = ()
