"""What the scripts answer and publish, as values of ours. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from broker.engine.base import Receipt, Run
from broker.engine.presence import CrowdChange, Crowds, NodeCrowd, RoomGlance
from broker.model import Draft, Event, Position

_SAID = msgspec.msgpack.Decoder(tuple[str, int, list[int | str]])
_REMOVAL = msgspec.msgpack.Decoder(tuple[str, str])
_CHANGE = msgspec.msgpack.Decoder(tuple[str, int, int, list[int | str] | dict[str, int]])


def parse_position(reply: Any) -> Position:
    """Return what the script `position` answered."""
    return Position(reply[0].decode(), reply[1])


def parse_receipts(reply: Any, drafts: Sequence[Draft], now_ms: int) -> list[Receipt]:
    """Return what the script `append` answered to drafts appended at `now_ms`."""
    epoch = reply[0].decode()
    receipts = []
    for draft, place in zip(drafts, reply[1:], strict=True):
        offset = place if place >= 0 else -1 - place
        position = Position(epoch, offset) if offset else None
        event = Event(draft.content, now_ms, offset or None) if place >= 0 else None
        receipts.append(Receipt(position, event))
    return receipts


def parse_run(reply: Any) -> Run:
    """Return what the script `read` answered."""
    epoch, offset, first_held, entries = reply
    events = tuple(
        Event(fields[3], int(fields[1]), int(entry_id.partition(b"-")[0])) for entry_id, fields in entries
    )
    return Run(Position(epoch.decode(), offset), first_held, events)


def parse_crowds(reply: Any, own_node: str) -> Crowds:
    """Return what the script `crowds` answered, without the node's own."""
    board, version, *told = reply
    nodes = {
        node.decode(): NodeCrowd(
            int(node_version), {user.decode(): int(count) for user, count in batched_pairs(users)}
        )
        for node, node_version, users in zip(told[::3], told[1::3], told[2::3], strict=True)
        if node.decode() != own_node
    }
    return Crowds(board.decode(), version, nodes)


def batched_pairs(flat: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Give what stands in turns: key, value, key, value."""
    return zip(flat[::2], flat[1::2], strict=True)


def is_crowd_change(payload: bytes) -> bool:
    """Whether what was published tells of users and not of events: an array of four (MessagePack fixarray)."""
    return payload[:1] == b"\x94"


def parse_crowd_change(payload: bytes) -> CrowdChange:
    """Return what a node has told of its users.

    :raises msgspec.MsgspecError: if it is something else.
    """
    node, version, follows, counts = _CHANGE.decode(payload)
    if isinstance(counts, dict):  # Lua's empty table
        return CrowdChange(node, version, follows, {})
    return CrowdChange(
        node, version, follows, {str(user): int(count) for user, count in batched_pairs(counts)}
    )


def is_removal(payload: bytes) -> bool:
    """Whether what was published tells to remove a user: an array of two (MessagePack fixarray)."""
    return payload[:1] == b"\x92"


def pack_removal(node: str, user_id: str) -> bytes:
    """Return what a node publishes to have a user removed."""
    return msgspec.msgpack.encode((node, user_id))


def parse_removal(payload: bytes) -> tuple[str, str]:
    """Return which node wants which user removed.

    :raises msgspec.MsgspecError: if it is something else.
    """
    return _REMOVAL.decode(payload)


def parse_glance(room: str, reply: Any) -> RoomGlance | None:
    """Return what the script `glance` answered; None for a room that nobody is in."""
    size, epoch, offset = reply
    return RoomGlance(room, size, Position(epoch.decode(), offset)) if size else None


def parse_said(payload: bytes) -> tuple[str, list[Event]]:
    """Return the epoch and the events that an append published.

    :raises msgspec.MsgspecError: if it is something else.
    """
    epoch, time_ms, said = _SAID.decode(payload)
    # Offsets and contents take turns; an ephemeral event has the offset 0.
    return epoch, [
        Event(content.encode(), time_ms, offset or None)
        for offset, content in zip(said[::2], said[1::2], strict=True)
        if isinstance(content, str) and isinstance(offset, int)
    ]
