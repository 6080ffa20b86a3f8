"""An engine in memory that a test can make unavailable, and that lets a turn of a room fail."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from broker.engine.base import Engine, Receipt, Retention, Run
from broker.engine.memory import MemoryEngine
from broker.engine.room_store import Answer, DueTimer, RoomStore, StoredRoom, StoredState, StoredTurn
from broker.errors import EngineUnavailableError
from broker.model import Draft, IdempotencyKey, Position


class RoomCrashError(Exception):
    """A room crashes, as the test has asked for."""

    def __init__(self) -> None:
        super().__init__("the test lets the room crash")


class FaultyEngine(Engine):
    """Passes every call on, or raises EngineUnavailableError while `is_unavailable`."""

    def __init__(self, inner: MemoryEngine) -> None:
        self._inner = inner
        self._room_store = _FaultyStore(inner.room_store, self.check)
        self.is_unavailable = False

    @contextmanager
    def failing_turn(self) -> Iterator[None]:
        """Let the next turn of a room with code fail as it begins."""
        self._room_store.is_turn_to_fail = True
        try:
            yield
        finally:
            self._room_store.is_turn_to_fail = False

    def check(self) -> None:
        """Raise EngineUnavailableError while it is unavailable."""
        if self.is_unavailable:
            raise EngineUnavailableError("made unavailable by the test")

    @property
    def room_store(self) -> RoomStore:
        """See Engine."""
        return self._room_store

    async def position(self, room: str) -> Position:
        """See Engine."""
        self.check()
        return await self._inner.position(room)

    async def append(self, room: str, drafts: Sequence[Draft], retention: Retention) -> Sequence[Receipt]:
        """See Engine."""
        self.check()
        return await self._inner.append(room, drafts, retention)

    async def read(
        self, room: str, *, after: int = 0, limit: int | None = None, reverse: bool = False
    ) -> Run:
        """See Engine."""
        self.check()
        return await self._inner.read(room, after=after, limit=limit, reverse=reverse)

    async def clear(self, room: str) -> int:
        """See Engine."""
        self.check()
        return await self._inner.clear(room)

    async def wait_ready(self) -> None:
        """See Engine."""
        self.check()
        await self._inner.wait_ready()


class _FaultyStore(RoomStore):
    def __init__(self, inner: RoomStore, check: Callable[[], None]) -> None:
        self._inner = inner
        self._check = check
        self.is_turn_to_fail = False

    def now_ms(self) -> int:
        # Each turn begins with it.
        if self.is_turn_to_fail:
            self.is_turn_to_fail = False
            raise RoomCrashError
        return self._inner.now_ms()

    async def load(self, room: str) -> StoredRoom:
        self._check()
        return await self._inner.load(room)

    async def recall(self, room: str, key: IdempotencyKey) -> Answer | None:
        self._check()
        return await self._inner.recall(room, key)

    async def store(
        self,
        room: str,
        turns: Sequence[StoredTurn],
        state: StoredState | None,
        retention: Retention,
        *,
        is_state_changed: bool,
    ) -> Sequence[Sequence[Receipt]]:
        self._check()
        return await self._inner.store(room, turns, state, retention, is_state_changed=is_state_changed)

    async def earliest_timers(self, limit: int) -> Sequence[DueTimer]:
        self._check()
        return await self._inner.earliest_timers(limit)
