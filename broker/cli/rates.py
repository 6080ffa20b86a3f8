"""Rates of rooms, from one sample of their offsets to the next. Pure."""

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import attrs
import msgspec

Order: TypeAlias = Literal["rate", "members", "name"]


class RoomSummary(msgspec.Struct, frozen=True):
    """A room as the HTTP API lists it."""

    room: str
    room_size: int
    offset: int
    epoch: str


@attrs.frozen
class Row:
    """A room, with its events per second since the sample before; None without one."""

    room: str
    room_size: int
    offset: int
    epoch: str
    per_second: float | None


@attrs.define
class Rates:
    """Keeps the last sample. Times are in seconds, of a monotonic clock that goes on while the machine sleeps."""

    _measured_at: float = 0.0
    _before: dict[str, RoomSummary] = attrs.Factory(dict)

    def measure(self, rooms: Sequence[RoomSummary], now: float) -> list[Row]:
        """Record a sample, and return a row for each room, in the same order."""
        elapsed_seconds = now - self._measured_at
        rows = [
            Row(room.room, room.room_size, room.offset, room.epoch, self._rate(room, elapsed_seconds))
            for room in rooms
        ]
        self._measured_at = now
        self._before = {room.room: room for room in rooms}
        return rows

    def _rate(self, room: RoomSummary, elapsed_seconds: float) -> float | None:
        before = self._before.get(room.room)
        if before is None or before.epoch != room.epoch or elapsed_seconds <= 0:
            return None
        return max(0, room.offset - before.offset) / elapsed_seconds


def sort_rows(rows: Iterable[Row], order: Order) -> list[Row]:
    """Return the rows sorted, the largest first, or by name; equal ones by name."""
    by_name = sorted(rows, key=lambda row: row.room)
    if order == "rate":
        return sorted(by_name, key=lambda row: (row.per_second or 0.0, row.room_size), reverse=True)
    if order == "members":
        return sorted(by_name, key=lambda row: row.room_size, reverse=True)
    return by_name
