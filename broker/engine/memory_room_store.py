"""The store of rooms that applications write, of a single process: in memory, and lost with it."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from heapq import heapify, heappop, heappush

import trio

from broker.engine.age_clock import EngineClock
from broker.engine.base import Receipt, Retention
from broker.engine.room_store import (
    Answer,
    DueTimer,
    RoomStore,
    StoredRoom,
    StoredState,
    StoredTurn,
    drafts_of,
    receipts_by_turn,
)
from broker.model import Draft, IdempotencyKey

Append = Callable[[str, Sequence[Draft], Retention], Awaitable[Sequence[Receipt]]]

MOST_STALE = 100
"""How many stale entries the heap of timers may have beyond as many as there are timers."""


class _Timers:
    """The timers of all rooms, and a heap of when they are due.

    A timer that is moved or removed leaves a stale entry in the heap.
    """

    def __init__(self) -> None:
        self._by_room: dict[str, dict[str, int]] = {}
        self._count = 0
        self._heap: list[tuple[int, str, str]] = []

    def of_room(self, room: str) -> dict[str, int]:
        return dict(self._by_room.get(room, {}))

    def set(self, room: str, name: str, due_ms: int | None) -> None:
        timers = self._by_room.setdefault(room, {})
        before = timers.pop(name, None)
        if due_ms is not None:
            timers[name] = due_ms
        if not timers:
            del self._by_room[room]
        self._count += (due_ms is not None) - (before is not None)
        if due_ms is not None and due_ms != before:
            heappush(self._heap, (due_ms, room, name))
        if len(self._heap) > 2 * self._count + MOST_STALE:
            self._heap = [
                (due_ms, room, name)
                for room, timers in self._by_room.items()
                for name, due_ms in timers.items()
            ]
            heapify(self._heap)

    def earliest(self, limit: int) -> list[DueTimer]:
        found: list[tuple[int, str, str]] = []
        while self._heap and len(found) < limit:
            entry = heappop(self._heap)
            due_ms, room, name = entry
            is_stale = self._by_room.get(room, {}).get(name) != due_ms
            # A timer that was moved away and back has two equal entries, which come one after the other.
            if not is_stale and found[-1:] != [entry]:
                found.append(entry)
        for entry in found:
            heappush(self._heap, entry)
        return [DueTimer(room, name, due_ms) for due_ms, room, name in found]


class MemoryRoomStore(RoomStore):
    """See RoomStore. `append` is the engine's, which never waits."""

    def __init__(self, append: Append, clock: EngineClock, *, idempotency_seconds: float) -> None:
        self._append = append
        self._clock = clock
        self._idempotency_seconds = idempotency_seconds
        self._states: dict[str, StoredState] = {}
        self._timers = _Timers()
        # With their expiry on the age clock; oldest first, as every answer has the same window.
        self._answers: OrderedDict[tuple[str, IdempotencyKey], tuple[Answer, float]] = OrderedDict()

    def now_ms(self) -> int:
        """See RoomStore."""
        return int(self._clock.age() * 1000)

    async def load(self, room: str) -> StoredRoom:
        """See RoomStore."""
        await trio.lowlevel.checkpoint_if_cancelled()
        return StoredRoom(self._states.get(room), self._timers.of_room(room))

    async def recall(self, room: str, key: IdempotencyKey) -> Answer | None:
        """See RoomStore."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._forget_answers(self._clock.age())
        answer, _ = self._answers.get((room, key), (None, 0.0))
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
        """See RoomStore. Never waits, as the engine's `append`."""
        drafts = drafts_of(turns)
        receipts = await self._append(room, drafts, retention) if drafts else ()
        if is_state_changed:
            self._states.pop(room, None)
            if state is not None:
                self._states[room] = state
        now = self._clock.age()
        self._forget_answers(now)
        by_turn = receipts_by_turn(turns, receipts)
        for turn, its_receipts in zip(turns, by_turn, strict=True):
            for name, due_ms in turn.timers.items():
                self._timers.set(room, name, due_ms)
            if turn.answer is not None:
                key = turn.answer.key
                self._answers.pop((room, key), None)
                self._answers[room, key] = (turn.answer.of(its_receipts), now + self._idempotency_seconds)
        return by_turn

    async def earliest_timers(self, limit: int) -> Sequence[DueTimer]:
        """See RoomStore."""
        await trio.lowlevel.checkpoint_if_cancelled()
        return self._timers.earliest(limit)

    def _forget_answers(self, now: float) -> None:
        while self._answers and next(iter(self._answers.values()))[1] <= now:
            self._answers.popitem(last=False)
