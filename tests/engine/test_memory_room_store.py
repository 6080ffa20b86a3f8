"""The memory that the memory engine's store of rooms frees, and what it stores of a refused append: nothing."""

import tracemalloc
from itertools import count

import pytest

from broker.engine.base import Retention
from broker.engine.memory import MemoryEngine
from broker.engine.room_store import DueTimer, StoredAnswer, StoredRoom, StoredState, StoredTurn
from broker.errors import EngineUnavailableError
from broker.model import Draft, IdempotencyKey
from tests.engine.poison import PoisonedEngine

KEEP = Retention(1000, 1_000_000, 86_400.0)
STATE = StoredState("Counter", 1, b"{}")
KEY = IdempotencyKey("ann", "k")


async def test_memory_does_not_grow_with_moved_timers_and_expired_answers() -> None:
    now = 0.0
    store = MemoryEngine(wall_clock=lambda: now, idempotency_seconds=300.0).room_store
    numbers = count(1)

    async def store_many() -> int:
        """Store and delete in many rooms; returns how many bytes are in use then."""
        nonlocal now
        for number in (next(numbers) for _ in range(300)):
            room, key = f"room {number}", IdempotencyKey("ann", str(number))
            turns = [StoredTurn(timers={"a": number, "b": number}, answer=StoredAnswer(key, b"1"))]
            await store.store(room, turns, STATE, KEEP, is_state_changed=True)
            turns = [StoredTurn(timers={"a": None}), StoredTurn(timers={"b": None})]
            await store.store(room, turns, None, KEEP, is_state_changed=True)
            await store.store("den", [StoredTurn(timers={"a": number})], None, KEEP, is_state_changed=False)
            now += 10
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = await store_many()
        after = [await store_many() for _ in range(3)]
    finally:
        tracemalloc.stop()
    assert max(after) - before < 20_000
    assert list(await store.earliest_timers(10)) == [DueTimer("den", "a", next(numbers) - 1)]


async def test_turns_whose_events_are_refused_leave_nothing() -> None:
    engine = PoisonedEngine()
    engine.make_error = lambda: EngineUnavailableError("away")
    turns = [StoredTurn(timers={"a": 1}, answer=StoredAnswer(KEY, b"1")), StoredTurn([Draft(b"{}")])]
    with pytest.raises(EngineUnavailableError):
        await engine.room_store.store("den", turns, STATE, KEEP, is_state_changed=True)
    assert await engine.room_store.load("den") == StoredRoom()
    assert await engine.room_store.recall("den", KEY) is None
    assert list(await engine.room_store.earliest_timers(1)) == []
