"""The values that all layers share: positions, drafts, events, claims."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import TypeAlias

import attrs
import msgspec

from broker.errors import ErrorCode, Refused

MAX_ROOM_NAME_CHARACTERS = 128

PRIVATE_PREFIX = "user_"
"""The prefix of a user's private room: `user_{id}`."""

WallClock: TypeAlias = Callable[[], float]
"""Returns Unix seconds; a parameter wherever the time of day matters, so that tests set it."""


_NAT64 = IPv6Network("64:ff9b::/96")
_NETWORK_BITS = 64

_UNCLEAN = re.compile("[/\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""C0, DEL and C1 control characters; surrogates cannot be written as UTF-8."""


def check_room_name(name: str) -> str:
    """Return `name` if it may name a room: 1 to 128 characters, no control character, no `/`, not `.` or `..`.

    A name that starts with `user_` has up to 133, so that every user id has a private room.

    :raises Refused: `invalid_message`, with the rule.
    """
    if not 1 <= len(name) <= room_name_limit(name) or not _is_clean(name):
        raise Refused(
            ErrorCode.INVALID_MESSAGE,
            f"room: 1 to {MAX_ROOM_NAME_CHARACTERS} characters, none of them a control character or '/'; "
            "not '.' or '..'",
        )
    return name


def room_name_limit(name: str) -> int:
    """Return the most characters of a room's name, or of a pattern for names, with the prefix of `name`."""
    return MAX_ROOM_NAME_CHARACTERS + (len(PRIVATE_PREFIX) if name.startswith(PRIVATE_PREFIX) else 0)


def is_dot_segment(name: str) -> bool:
    """Whether `name` is a step in a path (RFC 3986 section 5.2.4), so that no browser can address it."""
    return name in {".", ".."}


def _is_clean(name: str) -> bool:
    return _UNCLEAN.search(name) is None and not is_dot_segment(name)


def network_of(address: str) -> str:
    """Return the network that limits count as one address: for IPv6 the /64, the least that a subscriber gets.

    An IPv4 address that is written as IPv6 (RFC 4291 section 2.5.5.2, RFC 6052) is that IPv4 address. A text that is
    no IP address is returned as it is.
    """
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    embedded = parsed.ipv4_mapped
    if embedded is None and parsed in _NAT64:
        embedded = IPv4Address(int(parsed) & 0xFFFF_FFFF)
    if embedded is not None:
        return str(embedded)
    return f"{IPv6Address(int(parsed) >> _NETWORK_BITS << _NETWORK_BITS)}/{_NETWORK_BITS}"


def parse_offset(text: str) -> int | None:
    """Return the offset that `text` holds as decimal digits; None for anything else, such as one beyond 64 bits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


class Position(msgspec.Struct, frozen=True, gc=False):
    """A position in a room's history.

    Offsets count from 1, without gap, within an epoch; 0 is before the first event.
    """

    epoch: str
    offset: int

    def is_next_to(self, before: "Position") -> bool:
        """Whether this is the position right after `before`."""
        return self.offset == before.offset + 1 and self.epoch == before.epoch


class IdempotencyKey(msgspec.Struct, frozen=True, gc=False):
    """Names one publish of one publisher; the same key within the window is stored once.

    `scope` keeps publishers apart: a user's id, or the HTTP API.
    """

    scope: str
    key: str


TagPairs: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values of an event, each name once."""


class Excluded(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The recipients that an event is withheld from; it is stored as an array, like the header it is part of."""

    connection: str | None = None
    """The id of one connection."""
    user_id: str | None = None
    """All connections of a user."""
    connections: frozenset[str] = frozenset()
    """The ids of further connections."""
    users: frozenset[str] = frozenset()
    """All connections of further users."""

    @classmethod
    def of(cls, connections: Collection[str], users: Collection[str]) -> "Excluded | None":
        """Return the exclusion of connections and users; None if there are none.

        A single one of a kind is in the field that earlier versions know.
        """
        if not connections and not users:
            return None
        connection, connections = _single(connections)
        user_id, users = _single(users)
        return cls(connection, user_id, frozenset(connections), frozenset(users))

    def matches(self, user_id: str, connection: str) -> bool:
        """Whether the event is withheld from this connection of this user."""
        return (
            connection == self.connection
            or user_id == self.user_id
            or connection in self.connections
            or user_id in self.users
        )

    def names(self) -> Iterator[str]:
        """Return the ids of all connections and users in it."""
        yield from (each for each in (self.connection, self.user_id) if each is not None)
        yield from self.connections
        yield from self.users


def _single(names: Collection[str]) -> tuple[str | None, Collection[str]]:
    """Return a name that is alone, or several names."""
    return (next(iter(names)), ()) if len(names) == 1 else (None, names)


class EventHeader(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The fields of an event that can be read without its content: for filters, hooks and wire protocols.

    It is stored as an array. A further field goes to the end and has a default: a header that was stored before has
    the default, and an earlier version passes over the field.
    """

    type: str
    """`chat`, `event` for a client's own event, or the type of an application's message."""
    name: str | None = None
    """The name of a client's own event, else None."""
    sender: str | None = None
    """The user id of the client; None for an application."""
    connection: str | None = None
    """The id of the client's connection, see `broker.sessions.connections.ConnectionIds`; None for an application."""
    tags: TagPairs = ()
    """Given by the publisher, for filters."""
    excluded: Excluded | None = None
    traceparent: str | None = None
    """The span that has published it (W3C Trace Context, section 3.2); None without traces, or if it is not sampled."""


NO_HEADER = EventHeader("")
"""The header of content that is no event of the protocol."""


class Draft(msgspec.Struct, frozen=True, gc=False):
    """An event to be published, before the engine gives it a position.

    `content` is one JSON object without `room`, `offset`, `epoch` and `time`: those are added where
    it is encoded for a recipient. An ephemeral draft is delivered in order but never stored.
    """

    content: bytes
    ephemeral: bool = False
    key: IdempotencyKey | None = None
    header: EventHeader = NO_HEADER


class Event(msgspec.Struct, frozen=True, gc=False):
    """An event of a room. `offset` is None for an ephemeral event; `time_ms` is Unix milliseconds."""

    content: bytes
    time_ms: int
    offset: int | None
    header: EventHeader = NO_HEADER


class Shown(msgspec.Struct, frozen=True, gc=False):
    """The part of a connection that the other members of a room see. All its rooms share it while it has no state.

    `info` and `state` are JSON, None for none.
    """

    user_id: str
    connection: str = ""
    """See `broker.sessions.connections.ConnectionIds`; empty for one on a node of an earlier version."""
    since_ms: int = 0
    """Unix milliseconds at the start of the connection."""
    info: bytes | None = None
    """The claim of its token."""
    state: bytes | None = None
    """Set by the client itself, in this room."""

    @property
    def has_data(self) -> bool:
        """Whether there is more to it than its user's id."""
        return self.info is not None or self.state is not None


@attrs.frozen
class TagFilter:
    """The events that a member wants: those that have, of each name in it, one of its values.

    >>> TagFilter.of({"kind": ["goal", "card"]}).matches((("kind", "goal"), ("team", "home")))
    True
    """

    wanted: frozenset[tuple[str, frozenset[str]]]

    @classmethod
    def of(cls, values: Mapping[str, Iterable[str]]) -> "TagFilter":
        """Return the filter for names with their wanted values."""
        return cls(frozenset((name, frozenset(wanted)) for name, wanted in values.items()))

    def matches(self, tags: TagPairs) -> bool:
        """Whether an event with these tags is wanted."""
        given = dict(tags)
        return all(given.get(name) in values for name, values in self.wanted)


class PresenceBy(StrEnum):
    """The form of a list of members."""

    USER = "user"
    """Each user, with the number of its connections, and the info of the newest one that shows any."""
    CONNECTION = "connection"
    """Each connection, with its info and state."""
    COUNT = "count"
    """The numbers of connections and users."""


class Capability(StrEnum):
    """A permission that a token can give its bearer (the `can` claim)."""

    JOIN = "join"
    CHAT = "chat"
    PUBLISH = "publish"
    PRESENCE = "presence"
    HISTORY = "history"
    CALL = "call"


ALL_CAPABILITIES = frozenset(Capability)


@attrs.frozen
class Claims:
    """The claims of a verified token about its bearer.

    `expires_at` is Unix seconds, None for a token without `exp`. `rooms` holds the patterns of rooms that it may
    join, None if the room rules decide that. A bearer who is `hidden` is in rooms and does not show there.
    `token_id` is `jti`; `issued_at` is `iat` in Unix seconds. Both are None where the token has none that can be used.
    """

    user_id: str
    expires_at: float | None = None
    rooms: tuple[str, ...] | None = None
    can: frozenset[Capability] = ALL_CAPABILITIES
    hidden: bool = False
    info: bytes | None = None
    """JSON that the other members of a room are shown with the user's id; None for a token without the claim."""
    auto_join: tuple[str, ...] = ()
    """The rooms that a WebSocket is in from its start."""
    token_id: str | None = None
    issued_at: float | None = None
    payload: Mapping[str, object] | None = attrs.field(default=None, eq=False, repr=False)
    """All claims as they were signed, where hooks are told them; else None."""

    def has_expired(self, now: float, leeway_seconds: float) -> bool:
        """Whether `leeway_seconds` have passed since `expires_at`; `now` is Unix seconds."""
        return self.expires_at is not None and now >= self.expires_at + leeway_seconds
