"""An engine that nodes share, in memory: its replies and the arrivals of its feed come when a test lets them."""

from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import trio
from trio.testing import wait_all_tasks_blocked

from broker.engine.base import Engine, Receipt, Retention
from broker.engine.feed import Feed, FeedListener
from broker.errors import EngineUnavailableError
from broker.model import Draft, Event
from tests.rooms.conftest import WatchedEngine

T = TypeVar("T")


class SharedEngine(WatchedEngine, Feed):
    """Stores at once; holds each reply and each arrival back. `is_prompt`: appends may be begun without a wait."""

    def __init__(self, inner: Engine) -> None:
        super().__init__(inner)
        self.listeners: dict[str, FeedListener] = {}
        self.replies: deque[Callable[[], None]] = deque()
        self.arrivals: deque[tuple[str, str, list[Event]]] = deque()
        self.begun = 0
        """Appends that no task waits for."""

    @property
    def feed(self) -> Feed:
        return self

    async def subscribe(self, room: str, listener: FeedListener) -> None:
        self.listeners[room] = listener

    def unsubscribe(self, room: str) -> None:
        self.listeners.pop(room, None)

    async def append(self, room: str, drafts: Sequence[Draft], retention: Retention) -> Sequence[Receipt]:
        replied = trio.Event()
        self.replies.append(replied.set)
        try:
            receipts = await super().append(room, drafts, retention)
        except EngineUnavailableError:
            await replied.wait()  # noqa: ASYNC120
            raise
        await replied.wait()
        return receipts

    def append_soon(
        self,
        room: str,
        draft: Draft,
        retention: Retention,
        on_done: Callable[[Receipt | EngineUnavailableError], None],
    ) -> bool:
        if not self.is_prompt:
            return False
        result: Receipt | EngineUnavailableError
        try:
            [result] = at_once(super().append(room, [draft], retention))
        except EngineUnavailableError as error:
            result = error
        self.replies.append(lambda: on_done(result))
        self.begun += 1
        return True

    async def append_elsewhere(
        self, room: str, drafts: Sequence[Draft], retention: Retention
    ) -> Sequence[Receipt]:
        receipts = await super().append_elsewhere(room, drafts, retention)
        events = [receipt.event for receipt in receipts if receipt.event is not None]
        if events and room in self.listeners:
            self.arrivals.append((room, (await self.inner.position(room)).epoch, events))
        return receipts

    def reply(self) -> None:
        """Let the oldest reply come, if there is one."""
        if self.replies:
            self.replies.popleft()()

    def arrive(self) -> None:
        """Let the oldest arrival come, if there is one."""
        if self.arrivals:
            room, epoch, events = self.arrivals.popleft()
            if room in self.listeners:
                self.listeners[room].arrived(epoch, events)

    def lose(self) -> None:
        """Lose the oldest arrival, if there is one."""
        if self.arrivals:
            room, *_ = self.arrivals.popleft()
            if room in self.listeners:
                self.listeners[room].fell_behind()

    async def settle(self) -> None:
        """Let everything come."""
        await wait_all_tasks_blocked()
        while self.replies or self.arrivals:
            self.reply()
            self.arrive()
            await wait_all_tasks_blocked()


def at_once(call: Coroutine[Any, Any, T]) -> T:
    """Return what a call returns that waits for nothing."""
    try:
        call.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waits")
