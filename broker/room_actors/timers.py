"""Wakes rooms whose timers are due. A timer costs no task and no memory of the process until then."""

import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence

import trio

from actors import ActorError, Reply
from broker.engine.room_store import DueTimer, RoomStore
from broker.errors import EngineUnavailableError, ErrorCode, GreenroomError, Refused
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
LONGEST_SHARED_SLEEP_SECONDS = 1.0
"""Until a shared store is read again: it may have timers of rooms whose owner gave them up or died."""

Ask = Callable[[str, RoomMessage, Reply[None]], Awaitable[None]]
"""Sends a room a message, starting it if need be, and waits for the reply."""


class RoomTimers:
    """Reads the earliest timers from the store, and sends each to its room once it is due, until it had its turn."""

    def __init__(self, store: RoomStore, is_served: Callable[[str], bool]) -> None:
        """`is_served` says whether a room has code in this process. Timers of others stay in the store."""
        self._store = store
        self._is_served = is_served
        # Those that have their turn or wait for it.
        self._taken: set[DueTimer] = set()
        # Of those, the ones that are in the store again, or still: they may have been set again for the same moment.
        self._seen_again: set[DueTimer] = set()
        # Those of the latest read whose rooms are not served.
        self._not_served: set[DueTimer] = set()
        # By room, for those that have a task that fires them.
        self._queues: dict[str, deque[DueTimer]] = {}
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
                limit = len(self._taken) + len(self._not_served) + READ_AT_ONCE
                try:
                    timers = await self._store.earliest_timers(limit)
                except EngineUnavailableError as error:
                    await trio.sleep(error.retry_after_ms / 1000)
                    continue
                now_ms = self._store.now_ms()
                due = [timer for timer in timers if timer.due_ms <= now_ms]
                for timer in self._choose(due):
                    await self._places.acquire()
                    self._taken.add(timer)
                    self._queue(timer, ask, nursery)
                if len(due) < len(timers):
                    self.note(timers[len(due)].due_ms)
                if self._store.is_shared:
                    self.note(now_ms + int(LONGEST_SHARED_SLEEP_SECONDS * 1000))
                if len(due) < limit:
                    await self._sleep()

    def _choose(self, due: Sequence[DueTimer]) -> Sequence[DueTimer]:
        """Return those of a read that are to have their turn."""
        self._not_served = {timer for timer in due if not self._is_served(timer.room)}
        self._seen_again.update(self._taken.intersection(due))
        return [timer for timer in due if timer not in self._not_served and timer not in self._taken]

    async def _sleep(self) -> None:
        """Sleep until the earliest timer that was noted is due."""
        while (left_ms := self._sleeps_until_ms - self._store.now_ms()) > 0:
            with trio.move_on_after(max(left_ms / 1000, SHORTEST_SLEEP_SECONDS)):
                await self._wakeup.wait()

    def _queue(self, timer: DueTimer, ask: Ask, nursery: trio.Nursery) -> None:
        queue = self._queues.get(timer.room)
        if queue is None:
            self._queues[timer.room] = queue = deque()
            nursery.start_soon(self._fire_in_order, queue, ask, nursery)
        queue.append(timer)

    async def _fire_in_order(self, queue: deque[DueTimer], ask: Ask, nursery: trio.Nursery) -> None:
        """Send timers to their room, each after the one before has had its turn; one that fails holds up no other."""
        while queue:
            timer = queue.popleft()
            if await self._fire(timer, ask):
                self._settle(timer)
            else:
                nursery.start_soon(self._fire_again, timer, ask)
            if not queue:
                del self._queues[timer.room]

    async def _fire_again(self, timer: DueTimer, ask: Ask) -> None:
        """Send a timer whose turn has failed to its room until it has had its turn."""
        for delay_seconds in _delays():
            await trio.sleep(delay_seconds)
            if await self._fire(timer, ask):
                break
        self._settle(timer)

    async def _fire(self, timer: DueTimer, ask: Ask) -> bool:
        """Send a timer to its room once that can be asked; returns whether its turn has not failed."""
        delays = _delays()
        while True:
            reply: Reply[None] = Reply()
            try:
                async with self._turns:
                    await ask(timer.room, TimerDue(timer.name, timer.due_ms, reply), reply)
            except Refused as refused:
                if refused.code is not ErrorCode.UNAVAILABLE:
                    return False
            except (GreenroomError, ActorError):
                # The engine is away, or the room was given up. All timers of the room have to wait.
                pass
            else:
                return True
            await trio.sleep(next(delays))

    def _settle(self, timer: DueTimer) -> None:
        self._taken.discard(timer)
        self._places.release()
        if timer in self._seen_again:
            self._seen_again.discard(timer)
            self.note(timer.due_ms)


def _delays() -> Iterator[float]:
    delay_seconds = RETRY_SECONDS
    while True:
        yield delay_seconds
        delay_seconds = min(2 * delay_seconds, MOST_RETRY_SECONDS)
