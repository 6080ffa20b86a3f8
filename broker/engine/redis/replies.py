"""Parsers for replies of Redis and the scripts, and for messages of other nodes. Pure.

No input is trusted to have the right shape: every parser raises ValueError for anything unexpected.
"""

from collections.abc import Sequence
from math import isfinite

import attrs
import msgspec

from broker.engine.base import Receipt, Run
from broker.engine.outbox import AsideEntry, Entry, Kind, message_fields
from broker.engine.presence import NodePresence, RemoteChange, RemotePresence, RoomSummary
from broker.engine.redis.reply_values import INT64, array, binary, decimal, integer, of_msgspec, pairs, text
from broker.model import Draft, Event, EventHeader, Position, Shown
from broker.protocol.content import read_header

MOST_CONNECTIONS = 1 << 20
"""More connections of one user than a node can have."""

_ENTRY_FIELDS = 4  # names and values of time and content
_HEADER_AT = 5  # the value of the header, in entries that have one


class _Published(msgspec.Struct, frozen=True, array_like=True):
    """The message of an append; msgspec drops the elements behind these."""

    epoch: str
    time_ms: int
    fields: list[int | str]
    """Offset and content of each event; an ephemeral event has the offset 0."""
    headers: list[str] | None = None
    """The header of each event; None from an earlier version."""


class _Change(msgspec.Struct, frozen=True):
    """A node's announcement of its members."""

    node: str
    version: int
    follows: int
    members: list[str] | dict[str, str]
    """Connection and packed member of each; Lua's empty table is packed as a map."""


class _Member(msgspec.Struct, frozen=True, array_like=True):
    """A member as it is stored. A further field goes to the end and has a default."""

    user_id: str
    since_ms: int = 0
    info: msgspec.Raw = msgspec.Raw(b"null")
    state: msgspec.Raw = msgspec.Raw(b"null")


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    """An entry of the outbox. A further field goes to the end and has a default."""

    number: int
    epoch: str
    kind: Kind
    time_ms: int
    queued_ms: int
    room: str
    user: str
    fields: str
    header: str | None = None
    """Of a message, whose fields are its content."""
    offset: int = 0
    room_epoch: str = ""


class _StoredAside(msgspec.Struct, frozen=True, array_like=True):
    """An entry that was put aside."""

    aside_ms: int
    reason: str
    entry: _Stored


_ENTRY = msgspec.msgpack.Decoder(_Stored)
_ASIDE = msgspec.msgpack.Decoder(_StoredAside)
_PUBLISHED = msgspec.msgpack.Decoder(_Published)
_HEADER = msgspec.json.Decoder(EventHeader)
_CHANGE = msgspec.msgpack.Decoder(_Change)
_MEMBER = msgspec.json.Decoder(_Member)
_REMOVAL = msgspec.msgpack.Decoder(tuple[str, str])


@attrs.frozen
class Greeting:
    """A server's description of itself."""

    version: str
    numbers: tuple[int, ...]
    """The first two of the version."""
    is_replica: bool


def parse_greeting(reply: object) -> Greeting:
    """Parse the reply to HELLO 2; a server that names no role is taken for a master."""
    flat = array(reply)
    fields = {text(name): value for name, value in pairs(flat)}
    if "version" not in fields:
        raise ValueError("a greeting without a version")
    version = text(fields["version"])
    numbers = tuple(int(part) for part in version.split(".")[:2])
    return Greeting(version, numbers, fields.get("role", b"master") != b"master")


def parse_position(reply: object) -> Position:
    """Parse the reply of the script `position`."""
    epoch, offset = array(reply, 2)
    return Position(text(epoch), integer(offset))


def parse_receipts(reply: object, drafts: Sequence[Draft], now_ms: int) -> list[Receipt]:
    """Parse the reply of the script `append` to drafts appended at `now_ms`."""
    name, *places = array(reply, 1 + len(drafts))
    epoch = text(name)
    receipts = []
    for draft, given in zip(drafts, places, strict=True):
        place = integer(given, -INT64)
        offset = place if place >= 0 else -1 - place
        position = Position(epoch, offset) if offset else None
        event = Event(draft.content, now_ms, offset or None, draft.header) if place >= 0 else None
        receipts.append(Receipt(position, event))
    return receipts


def parse_run(reply: object) -> Run:
    """Parse the reply of the script `read`."""
    epoch, newest, first_held, entries = array(reply, 4)
    position = Position(text(epoch), integer(newest))
    first_held = integer(first_held, 1)
    if first_held > position.offset + 1:
        raise ValueError("events are held that are not there yet")
    events = tuple(_event(entry) for entry in array(entries))
    if events:
        _check_run([event.offset or 0 for event in events], first_held, position.offset)
    return Run(position, first_held, events)


def _check_run(offsets: list[int], first: int, last: int) -> None:
    """Check that offsets are consecutive, oldest or newest first, and within bounds."""
    step = 1 if offsets[0] <= offsets[-1] else -1
    if offsets != [offsets[0] + step * index for index in range(len(offsets))]:
        raise ValueError("entries that are no run of events")
    if min(offsets[0], offsets[-1]) < first or max(offsets[0], offsets[-1]) > last:
        raise ValueError("entries that are not held")


def _event(entry: object) -> Event:
    """Parse an entry of a stream: the time, the content, the header, and fields of a later version, which are dropped.

    An entry of an earlier version has no header.
    """
    entry_id, fields = array(entry, 2)
    if len(array(fields)) < _ENTRY_FIELDS or len(fields) % 2:
        raise ValueError("not an entry of a room's stream")
    _, time_ms, _, content = fields[:_ENTRY_FIELDS]
    if type(entry_id) is not bytes or type(content) is not bytes:
        raise ValueError("not an entry of a room's stream")
    has_header = len(fields) > _HEADER_AT and fields[_HEADER_AT - 1] == b"h"
    header = parse_header(binary(fields[_HEADER_AT])) if has_header else read_header(content)
    return Event(content, decimal(time_ms), decimal(entry_id.partition(b"-")[0]), header)


def pack_header(header: EventHeader) -> bytes:
    """Return a header as it is stored and published: a JSON array, as Lua's strings can be no part of a message."""
    return msgspec.json.encode(header)


@of_msgspec
def parse_header(packed: bytes | str) -> EventHeader:
    """Parse a header of this version, or of an earlier or later one."""
    return _HEADER.decode(packed)


@of_msgspec
def parse_remote_presence(reply: object, own_node: str) -> RemotePresence:
    """Parse the reply of the script `snapshot`; the node's own members are left out."""
    store_id, version, *fields = array(reply)
    nodes = {
        text(node): NodePresence(integer(node_version), _members(members) or _uncounted(users))
        for node, node_version, members, users in zip(
            fields[::4], fields[1::4], fields[2::4], fields[3::4], strict=True
        )
    }
    nodes.pop(own_node, None)
    return RemotePresence(text(store_id), integer(version), nodes)


def _members(flat: object) -> dict[str, Shown]:
    members = {}
    for connection, packed in pairs(array(flat)):
        name = text(connection)
        members[name] = _parse_member(name, binary(packed))
    return members


def _uncounted(flat: object) -> dict[str, Shown]:
    """Return a member for each connection of the users of an earlier version's node, which names none of them."""
    members = {}
    for user, count in pairs(array(flat)):
        shown = Shown(text(user))
        # No connection's id has a slash.
        members.update(
            {f"{shown.user_id}/{number}": shown for number in range(decimal(count, MOST_CONNECTIONS))}
        )
    return members


def pack_member(shown: Shown | None) -> bytes:
    """Return what a member shows as it is stored and published, empty for one that left."""
    if shown is None:
        return b""
    if not shown.has_data:
        return msgspec.json.encode((shown.user_id, shown.since_ms))
    info, state = (msgspec.Raw(b"null" if each is None else each) for each in (shown.info, shown.state))
    return msgspec.json.encode(_Member(shown.user_id, shown.since_ms, info, state))


def _parse_member(connection: str, packed: bytes | str) -> Shown:
    member = _MEMBER.decode(packed)
    info, state = bytes(member.info), bytes(member.state)
    return Shown(
        member.user_id,
        connection,
        member.since_ms,
        None if info == b"null" else info,
        None if state == b"null" else state,
    )


def parse_summary(room: str, reply: object) -> RoomSummary | None:
    """Parse the reply of the script `summary`; None for a room without members."""
    size, epoch, offset = array(reply, 3)
    position = Position(text(epoch), integer(offset))
    return RoomSummary(room, size, position) if integer(size) else None


def parse_lease(reply: object) -> tuple[bool, int, list[str]]:
    """Parse the reply of the script `lease`: whether the node had none, the server's time in ms, the dead nodes."""
    had_none, server_ms, *dead = array(reply)
    return integer(had_none) == 1, integer(server_ms), [text(node) for node in dead]


@of_msgspec
def parse_entries(reply: object) -> list[Entry]:
    """Parse entries of the outbox."""
    return [_entry_of(_ENTRY.decode(binary(packed))) for packed in array(reply)]


@of_msgspec
def parse_aside(reply: object) -> list[AsideEntry]:
    """Parse entries of the outbox that were put aside."""
    found = [_ASIDE.decode(binary(packed)) for packed in array(reply)]
    return [AsideEntry(_entry_of(each.entry), each.aside_ms, each.reason) for each in found]


@of_msgspec
def parse_queue_counts(reply: object) -> tuple[int, int | None, int]:
    """Parse the reply of the script `outbox_count`: entries that wait, when the first was queued, entries aside."""
    waiting, first, aside = array(reply, 3)
    oldest_ms = next((_ENTRY.decode(binary(packed)).queued_ms for packed in array(first)), None)
    return integer(waiting), oldest_ms, integer(aside)


def _entry_of(stored: _Stored) -> Entry:
    user, fields = stored.user, msgspec.Raw(stored.fields.encode())
    if stored.header is not None:
        header = parse_header(stored.header)
        user = header.sender or ""
        position = Position(stored.room_epoch, stored.offset)
        fields = message_fields(position, bytes(fields), header.traceparent)
    return Entry(
        *(stored.epoch, stored.number, stored.kind, stored.time_ms, stored.queued_ms),
        *(stored.room or None, user or None, fields),
    )


def parse_text(reply: object) -> str:
    """Parse a string."""
    return text(reply)


def parse_names(reply: object) -> list[str]:
    """Parse strings."""
    return [text(name) for name in array(reply)]


def parse_left_in_book(reply: object) -> int:
    """Parse the reply of the script `bury`: users that are left, -1 if the node is alive."""
    return integer(reply, -1)


def parse_announced_version(reply: object) -> int:
    """Parse the reply of the script `announce`."""
    return integer(reply, -1)


def parse_count(reply: object) -> int:
    """Parse the reply to PUBLISH."""
    return integer(reply)


def parse_scores(reply: object) -> dict[str, float]:
    """Parse the members of a sorted set with their scores, all finite."""
    scores = {text(member): float(text(score)) for member, score in pairs(array(reply))}
    if not all(map(isfinite, scores.values())):
        raise ValueError("not a number within its bounds")
    return scores


def parse_close_counts(reply: object) -> tuple[int, int]:
    """Parse the reply of the script `close`: how many nodes received the message, and how many are alive."""
    received, alive = array(reply, 2)
    return integer(received), integer(alive)


def parse_room_names(reply: object, after: str | None) -> list[str]:
    """Parse names of rooms, which must rise and come after `after`; with others, paging would never end."""
    names = [text(name) for name in array(reply)]
    before = [*([] if after is None else [after]), *names]
    if any(
        first >= second
        for first, second in zip(before, names if after is not None else names[1:], strict=False)
    ):
        raise ValueError("names that do not rise")
    return names


def is_remote_change(payload: bytes) -> bool:
    """Whether a message of a room's channel is about presence: a map (MessagePack fixmap).

    An earlier version publishes an array of four, and counts alone: its members are read in a snapshot.
    """
    return b"\x80" <= payload[:1] <= b"\x8f"


@of_msgspec
def parse_remote_change(payload: bytes) -> RemoteChange:
    """Parse a node's announcement of its members."""
    change = _CHANGE.decode(payload)
    flat = change.members if isinstance(change.members, list) else []
    return RemoteChange(
        change.node,
        change.version,
        change.follows,
        {
            connection: _parse_member(connection, packed) if packed else None
            for connection, packed in pairs(flat)
        },
    )


def is_removal(payload: bytes) -> bool:
    """Whether a message of a room's channel is a removal: an array of two (MessagePack fixarray)."""
    return payload[:1] == b"\x92"


def pack_removal(node: str, user_id: str) -> bytes:
    """Return the message with which a node has a user removed."""
    return msgspec.msgpack.encode((node, user_id))


@of_msgspec
def parse_removal(payload: bytes) -> tuple[str, str]:
    """Parse a removal: the node that asked for it, and the user."""
    return _REMOVAL.decode(payload)


def is_published(payload: bytes) -> bool:
    """Whether a message of a room's channel is an append of this version: an array of five (MessagePack fixarray)."""
    return payload[:1] == b"\x95"


def parse_published(payload: bytes) -> tuple[str, list[Event]]:
    """Parse the message of an append: the epoch and the events.

    An earlier version published three elements, a later one may publish more than five; arrays of two, four (of an
    earlier version) and maps are the other messages of the channel.
    """
    try:
        published = _PUBLISHED.decode(payload)
        offsets, contents = published.fields[::2], published.fields[1::2]
        headers = [None] * len(offsets) if published.headers is None else published.headers
        events = []
        for offset, content, header in zip(offsets, contents, headers, strict=True):
            if type(content) is not str or type(offset) is not int or not 0 <= offset < INT64:
                raise ValueError("no offset and content")
            written = content.encode()
            parsed = read_header(written) if header is None else _HEADER.decode(header)
            events.append(Event(written, published.time_ms, offset or None, parsed))
    except (msgspec.MsgspecError, MemoryError, RecursionError) as error:
        # As `of_msgspec`, without a call for each message.
        raise ValueError(str(error)) from error
    return published.epoch, events
