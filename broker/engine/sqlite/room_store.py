"""The store of rooms that applications write, in the SQLite file."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import trio

from broker.engine.base import Receipt, Retention
from broker.engine.recent_keys import RecentKeys
from broker.engine.room_store import (
    Answer,
    DueTimer,
    RoomStore,
    StoredRoom,
    StoredState,
    StoredTurn,
    receipts_by_turn,
)
from broker.engine.sqlite.room_rows import StoreTurns, read_answer, read_room, read_timers
from broker.engine.sqlite.rows import Reader
from broker.model import Draft, IdempotencyKey


@attrs.define(eq=False)
class SqliteRoomStore(RoomStore):
    """See RoomStore; stored in the same commits as the events of rooms.

    This process alone stores in the file, so it knows most keys for new without a look at it.
    """

    _append: Callable[[str, Sequence[Draft], Retention], Awaitable[Sequence[Receipt]]]
    _commit: Callable[[StoreTurns], Awaitable[Sequence[Receipt]]]
    _read: Callable[[Callable[[Reader], Any]], Awaitable[Any]]
    _age_ms: Callable[[], int]
    _keys: RecentKeys
    _earlier_until_ms: int
    """When the last answer of earlier processes expires."""

    def now_ms(self) -> int:
        """See RoomStore."""
        return self._age_ms()

    async def load(self, room: str) -> StoredRoom:
        """See RoomStore."""
        found: StoredRoom = await self._read(lambda reader: read_room(reader.connection, room))
        return found

    async def recall(self, room: str, key: IdempotencyKey) -> Answer | None:
        """See RoomStore."""
        now_ms = self._age_ms()
        if now_ms >= self._earlier_until_ms and not self._keys.may_hold(room, key):
            await trio.lowlevel.checkpoint_if_cancelled()
            return None
        answer: Answer | None = await self._read(
            lambda reader: read_answer(reader.connection, room, key, now_ms)
        )
        return answer

    async def store(
        self,
        room: str,
        turns: Sequence[StoredTurn],
        state: StoredState | None,
        retention: Retention,
        *,
        is_state_changed: bool,
    ) -> Sequence[Sequence[Receipt]]:
        """See RoomStore. Turns with nothing but drafts are an append: ephemeral ones work on a full disk too."""
        storing = StoreTurns(room, turns, state, retention, is_state_changed)
        for turn in turns:
            if turn.answer is not None:
                self._keys.note(room, turn.answer.key, self._age_ms())
        if storing.has_rows:
            receipts = await self._commit(storing)
        else:
            receipts = await self._append(room, storing.drafts, retention)
        return receipts_by_turn(turns, receipts)

    async def earliest_timers(self, limit: int) -> Sequence[DueTimer]:
        """See RoomStore."""
        found: list[DueTimer] = await self._read(lambda reader: read_timers(reader.connection, limit))
        return found
