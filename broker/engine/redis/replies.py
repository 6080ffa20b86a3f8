"""What Redis, the scripts and other nodes say, as values of ours. Pure.

Nothing of it is trusted to have the shape that it should have: every function raises ValueError for anything else.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import attrs
import msgspec

from broker.engine.base import Receipt, Run
from broker.engine.presence import NodePresence, RemoteChange, RemotePresence, RoomGlance
from broker.model import Draft, Event, Position

MOST_CONNECTIONS = 1 << 20
"""More connections of one user than a node can have."""

_INT64 = 1 << 63

_SAID = msgspec.msgpack.Decoder(tuple[str, int, list[int | str]])
_REMOVAL = msgspec.msgpack.Decoder(tuple[str, str])
_CHANGE = msgspec.msgpack.Decoder(tuple[str, int, int, list[int | str] | dict[str, int]])

P = ParamSpec("P")
T = TypeVar("T")


def _of_message_pack(parse: Callable[P, T]) -> Callable[P, T]:
    """Let `parse` raise nothing but ValueError; an array that announces 2**32 elements is a MemoryError."""

    @wraps(parse)
    def parse_or_refuse(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return parse(*args, **kwargs)
        except (msgspec.MsgspecError, MemoryError, RecursionError) as error:
            raise ValueError(str(error)) from error

    return parse_or_refuse


@attrs.frozen
class Greeting:
    """What a server says of itself."""

    version: str
    numbers: tuple[int, ...]
    """The first two of the version."""
    is_replica: bool


def parse_greeting(reply: object) -> Greeting:
    """Return what HELLO 2 answered; a server that does not tell its role is taken for a master."""
    flat = _list(reply)
    fields = {_text(name): value for name, value in _pairs(flat)}
    if "version" not in fields:
        raise ValueError("a greeting without a version")
    version = _text(fields["version"])
    numbers = tuple(int(part) for part in version.split(".")[:2])
    return Greeting(version, numbers, fields.get("role", b"master") != b"master")


def parse_position(reply: object) -> Position:
    """Return what the script `position` answered."""
    epoch, offset = _list(reply, 2)
    return Position(_text(epoch), _integer(offset))


def parse_receipts(reply: object, drafts: Sequence[Draft], now_ms: int) -> list[Receipt]:
    """Return what the script `append` answered to drafts appended at `now_ms`."""
    told = _list(reply, 1 + len(drafts))
    epoch = _text(told[0])
    receipts = []
    for draft, told_place in zip(drafts, told[1:], strict=True):
        place = _integer(told_place, -_INT64)
        offset = place if place >= 0 else -1 - place
        position = Position(epoch, offset) if offset else None
        event = Event(draft.content, now_ms, offset or None) if place >= 0 else None
        receipts.append(Receipt(position, event))
    return receipts


def parse_run(reply: object) -> Run:
    """Return what the script `read` answered."""
    epoch, newest, first_held, entries = _list(reply, 4)
    position = Position(_text(epoch), _integer(newest))
    first_held = _integer(first_held, 1)
    if first_held > position.offset + 1:
        raise ValueError("events are held that are not there yet")
    events = tuple(_event(entry) for entry in _list(entries))
    if events:
        _check_run([event.offset or 0 for event in events], first_held, position.offset)
    return Run(position, first_held, events)


def _check_run(offsets: list[int], first: int, last: int) -> None:
    """Check that they stand without a gap, the oldest or the newest first, and within bounds."""
    step = 1 if offsets[0] <= offsets[-1] else -1
    if offsets != [offsets[0] + step * index for index in range(len(offsets))]:
        raise ValueError("entries that are no run of events")
    if min(offsets[0], offsets[-1]) < first or max(offsets[0], offsets[-1]) > last:
        raise ValueError("entries that are not held")


def _event(entry: object) -> Event:
    entry_id, fields = _list(entry, 2)
    _, time_ms, _, content = _list(fields, 4)
    if type(entry_id) is not bytes or type(content) is not bytes:
        raise ValueError("no entry of a stream")
    return Event(content, _decimal(time_ms), _decimal(entry_id.partition(b"-")[0]))


def parse_remote_presence(reply: object, own_node: str) -> RemotePresence:
    """Return what the script `snapshot` answered, without the node's own."""
    board, version, *told = _list(reply)
    nodes = {
        _text(node): NodePresence(
            _integer(node_version),
            {_text(user): _decimal(count, MOST_CONNECTIONS) for user, count in _pairs(_list(users))},
        )
        for node, node_version, users in zip(told[::3], told[1::3], told[2::3], strict=True)
    }
    nodes.pop(own_node, None)
    return RemotePresence(_text(board), _integer(version), nodes)


def parse_glance(room: str, reply: object) -> RoomGlance | None:
    """Return what the script `glance` answered; None for a room that nobody is in."""
    size, epoch, offset = _list(reply, 3)
    position = Position(_text(epoch), _integer(offset))
    return RoomGlance(room, size, position) if _integer(size) else None


def parse_lease(reply: object) -> tuple[bool, int, list[str]]:
    """Return what the script `lease` answered: whether the node had none, the server's ms, the nodes that have died."""
    had_none, server_ms, *dead = _list(reply)
    return _integer(had_none) == 1, _integer(server_ms), [_text(node) for node in dead]


def parse_board_version(reply: object) -> int:
    """Return what the script `announce` answered."""
    return _integer(reply, -1)


def parse_count(reply: object) -> int:
    """Return what PUBLISH answered."""
    return _integer(reply)


def parse_heard(reply: object) -> tuple[int, int]:
    """Return what the script `close` answered: how many nodes have heard, and how many are alive."""
    heard, alive = _list(reply, 2)
    return _integer(heard), _integer(alive)


def parse_names(reply: object, after: str | None) -> list[str]:
    """Return names of rooms, which rise and come behind `after`: with others, paging would go on for ever."""
    names = [_text(name) for name in _list(reply)]
    before = [*([] if after is None else [after]), *names]
    if any(
        first >= second
        for first, second in zip(before, names if after is not None else names[1:], strict=False)
    ):
        raise ValueError("names that do not rise")
    return names


def is_remote_change(payload: bytes) -> bool:
    """Whether what was published tells of users and not of events: an array of four (MessagePack fixarray)."""
    return payload[:1] == b"\x94"


@_of_message_pack
def parse_remote_change(payload: bytes) -> RemoteChange:
    """Return what a node has told of its users."""
    node, version, follows, counts = _CHANGE.decode(payload)
    if isinstance(counts, dict):  # Lua's empty table
        counts = []
    return RemoteChange(
        node, version, follows, {_user(user): _connections(count) for user, count in _pairs(counts)}
    )


def _user(user: int | str) -> str:
    if type(user) is not str:
        raise ValueError("no user's id")
    return user


def _connections(count: int | str) -> int:
    """Return how many connections a user has, which Lua has packed as the string that it was given."""
    return _decimal(count.encode() if isinstance(count, str) else b"%d" % count, MOST_CONNECTIONS)


def is_removal(payload: bytes) -> bool:
    """Whether what was published tells to remove a user: an array of two (MessagePack fixarray)."""
    return payload[:1] == b"\x92"


def pack_removal(node: str, user_id: str) -> bytes:
    """Return what a node publishes to have a user removed."""
    return msgspec.msgpack.encode((node, user_id))


@_of_message_pack
def parse_removal(payload: bytes) -> tuple[str, str]:
    """Return which node wants which user removed."""
    return _REMOVAL.decode(payload)


@_of_message_pack
def parse_said(payload: bytes) -> tuple[str, list[Event]]:
    """Return the epoch and the events that an append published."""
    epoch, time_ms, said = _SAID.decode(payload)
    events = []
    # Offsets and contents take turns; an ephemeral event has the offset 0.
    for offset, content in zip(said[::2], said[1::2], strict=True):
        if not isinstance(content, str) or not isinstance(offset, int) or not 0 <= offset < _INT64:
            raise ValueError("no offset and content")
        events.append(Event(content.encode(), time_ms, offset or None))
    return epoch, events


def _pairs(flat: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Return what stands in turns: key, value, key, value."""
    return list(zip(flat[::2], flat[1::2], strict=True))


def _list(value: object, length: int | None = None) -> list[Any]:
    # Not isinstance: a push of RESP 3 is a list, too.
    if type(value) is not list or (length is not None and len(value) != length):
        raise ValueError("not the array that was expected")
    return value


def _text(value: object) -> str:
    if type(value) is not bytes:
        raise ValueError("not a string")
    return value.decode()


def _integer(value: object, least: int = 0) -> int:
    if type(value) is not int or value < least:
        raise ValueError("not a number that can be")
    return value


def _decimal(value: object, most: int = _INT64 - 1) -> int:
    """Return a number that stands in a string of digits."""
    if type(value) is not bytes or not value.isdigit() or len(value) > 19 or int(value) > most:
        raise ValueError("not a number that can be")
    return int(value)
