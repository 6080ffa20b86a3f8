"""Wakes rooms whose timers are due. A timer costs no task and no memory of the process until then."""

import math
from collections.abc import Awaitable, Callable, Sequence

import trio

from actors import ActorError, Reply
from broker.engine.room_store import DueTimer, RoomStore
from broker.errors import EngineUnavailableError, GreenroomError
from broker.rooms.messages import RoomMessage, TimerDue
from broker.wakeup import Wakeup

READ_AT_ONCE = 64
FIRED_AT_ONCE = 64
"""Timers that have their turn at the same time, each in another room."""
MOST_DUE = 4096
"""Timers that are due, or wait for their next try: more stay in the store until some of these are done."""
RETRY_SECONDS = 1.0
"""Wait before a timer that failed is tried again; twice as long each further time, up to MOST_RETRY_SECONDS."""
MOST_RETRY_SECONDS = 60.0
SHORTEST_SLEEP_SECONDS = 0.001

Ask = Callable[[str, RoomMessage, Reply[None]], Awaitable[None]]
"""Sends a room a message, starting it if need be, and waits for the reply."""


class RoomTimers:
    """Reads the earliest timers from the store, and sends each to its room once it is due, until it had its turn."""

    def __init__(self, store: RoomStore) -> None:
        self._store = store
        self._fired: set[DueTimer] = set()
        self._places = trio.Semaphore(MOST_DUE)
        self._turns = trio.Semaphore(FIRED_AT_ONCE)
        self._wakeup = Wakeup()
        self._sleeps_until_ms = math.inf

    def note(self, due_ms: int) -> None:
        """Note that a timer was stored."""
        if due_ms < self._sleeps_until_ms:
            self._sleeps_until_ms = due_ms
            self._wakeup.set()

    async def run(self, ask: Ask) -> None:
        """Fire timers until cancelled; `ask` brings them to their rooms."""
        async with trio.open_nursery() as nursery:
            while True:
                # Timers that are noted from here on may be missing in what is read.
                self._sleeps_until_ms = math.inf
                limit = len(self._fired) + READ_AT_ONCE
                try:
                    timers = await self._store.earliest_timers(limit)
                except EngineUnavailableError as error:
                    await trio.sleep(error.retry_after_ms / 1000)
                    continue
                now_ms = self._store.now_ms()
                due = [timer for timer in timers if timer.due_ms <= now_ms]
                by_room: dict[str, list[DueTimer]] = {}
                for timer in due:
                    if timer not in self._fired:
                        await self._places.acquire()
                        self._fired.add(timer)
                        by_room.setdefault(timer.room, []).append(timer)
                for timers_of_room in by_room.values():
                    nursery.start_soon(self._fire_in_order, timers_of_room, ask, nursery)
                if len(due) < len(timers):
                    self.note(timers[len(due)].due_ms)
                if len(due) < limit:
                    await self._sleep()

    async def _sleep(self) -> None:
        """Sleep until the earliest timer that was noted is due."""
        while (left_ms := self._sleeps_until_ms - self._store.now_ms()) > 0:
            with trio.move_on_after(max(left_ms / 1000, SHORTEST_SLEEP_SECONDS)):
                await self._wakeup.wait()

    async def _fire_in_order(self, timers: Sequence[DueTimer], ask: Ask, nursery: trio.Nursery) -> None:
        """Send timers to their room, each after the one before has had its turn; one that fails holds up no other."""
        for timer in timers:
            if await self._is_done(timer, ask):
                self._settle(timer)
            else:
                nursery.start_soon(self._fire_again, timer, ask)

    async def _fire_again(self, timer: DueTimer, ask: Ask) -> None:
        """Send a timer that has failed to its room until it has had its turn there."""
        delay_seconds = RETRY_SECONDS
        await trio.sleep(delay_seconds)
        while not await self._is_done(timer, ask):
            delay_seconds = min(2 * delay_seconds, MOST_RETRY_SECONDS)
            await trio.sleep(delay_seconds)
        self._settle(timer)

    def _settle(self, timer: DueTimer) -> None:
        self._fired.discard(timer)
        self._places.release()

    async def _is_done(self, timer: DueTimer, ask: Ask) -> bool:
        reply: Reply[None] = Reply()
        async with self._turns:
            try:
                await ask(timer.room, TimerDue(timer.name, timer.due_ms, reply), reply)
            except (GreenroomError, ActorError):
                # The room has reported it, or the engine or the node has no place just now.
                return False
            return True
