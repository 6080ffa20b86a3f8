"""Parsers for the replies of the scripts of rooms with code. Pure; each raises ValueError, as those of `replies`."""

from collections.abc import Callable, Sequence

import attrs

from broker.engine.base import Receipt
from broker.engine.redis.replies import parse_receipts
from broker.engine.redis.reply_values import array, binary, decimal, integer, signed_decimal, text
from broker.engine.room_store import Answer, DueTimer, Move, StoredRoom, StoredState
from broker.model import Draft, Position


@attrs.frozen
class Claim:
    """The ownership of a room, and all that is stored of it."""

    fence: int
    move: Move | None
    """How the room left another node, if it comes from one."""
    room: StoredRoom


def parse_claim(reply: object) -> Claim | str | None:
    """Parse the reply of the script `room_load`: the owner if it is another node, None if this one has no lease."""
    if type(reply) is bytes:
        return text(reply)
    if reply == 0:
        integer(reply)
        return None
    fence, move, flat, *state = array(reply)
    how = text(move)
    room = StoredRoom(_state_of(state), dict(_pairs_of(flat)))
    return Claim(integer(fence, 1), Move(how) if how else None, room)


def parse_peek(reply: object) -> StoredRoom:
    """Parse the reply of the script `room_peek`."""
    owner, flat, *state = array(reply)
    return StoredRoom(_state_of(state), dict(_pairs_of(flat)), text(owner) or None)


def _state_of(fields: Sequence[object]) -> StoredState | None:
    if not fields:
        return None
    class_name, version, content = fields
    return StoredState(text(class_name), decimal(version), binary(content))


def _pairs_of(flat: object) -> list[tuple[str, int]]:
    names, times = array(flat)[::2], array(flat)[1::2]
    return [(text(name), signed_decimal(due_ms)) for name, due_ms in zip(names, times, strict=True)]


def parse_stored(reply: object, drafts: Sequence[Draft], now_ms: int) -> list[Receipt] | None:
    """Parse the reply of the script `room_store`; None if the node does not own the room."""
    if reply == 0:
        integer(reply)
        return None
    return parse_receipts(reply, drafts, now_ms)


def parse_answer(reply: object, now_ms: int) -> Answer | None:
    """Parse an answer as `room_store` writes it; None for one whose window is over."""
    if reply is None:
        return None
    until_ms, offset, epoch, content = binary(reply).split(b" ", 3)
    position = Position(text(epoch), decimal(offset)) if decimal(offset) else None
    return Answer(content, position) if decimal(until_ms) > now_ms else None


def parse_timers(reply: object, room_of: Callable[[str], str]) -> list[DueTimer]:
    """Parse the reply of the script `room_timers`; `room_of` returns the room of a tag."""
    fields = array(reply)
    return [
        DueTimer(room_of(text(tag)), text(name), signed_decimal(due_ms))
        for tag, name, due_ms in zip(fields[::3], fields[1::3], fields[2::3], strict=True)
    ]
