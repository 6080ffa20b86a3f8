"""An outbox in memory, its deliveries in virtual time, and receivers that answer as a test says."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import msgspec
import trio

from broker.config.settings import Settings, WebhookSettings
from broker.engine.age_clock import Moment
from broker.engine.memory_outbox import PARTITION, MemoryOutbox
from broker.engine.open import queues_of
from broker.engine.outbox import Outbox, write_message_entry
from broker.errors import EngineUnavailableError
from broker.model import Event, Position, WallClock
from broker.webhooks.batches import Batch
from broker.webhooks.deliveries import open_deliveries
from broker.webhooks.progress import Failure
from broker.webhooks.tally import Tally
from tests.support.logs import RecordingLog
from tests.webhooks.entries import webhook

STARTED_AT = 1_700_000_000.0


def virtual_wall_clock() -> float:
    return STARTED_AT + trio.current_time()


async def take(_batch: Batch) -> Failure | None:
    await trio.lowlevel.checkpoint()
    return None


@attrs.define(eq=False)
class Application:
    """A receiver without a network: answers as `answer` does, and notes what it takes."""

    answer: Callable[[Batch], Awaitable[Failure | None]] = take
    requests: list[list[dict[str, Any]]] = attrs.Factory(list)
    taken: list[dict[str, Any]] = attrs.Factory(list)

    async def post(self, batch: Batch) -> Failure | None:
        """See `broker.webhooks.delivery.Poster`."""
        entries = msgspec.json.decode(batch.body)
        self.requests.append(entries)
        failure = await self.answer(batch)
        if failure is None:
            self.taken += entries
        return failure

    @property
    def contents(self) -> list[int]:
        """The contents of the entries taken, in order."""
        return [entry["content"]["n"] for entry in self.taken]


class FlakyOutbox(MemoryOutbox):
    """An outbox whose engine is away for some calls."""

    failing: Callable[[], bool] = staticmethod(lambda: False)

    async def lease(self, *args: Any) -> int | None:
        self._fail()
        return await super().lease(*args)

    async def release(self, *args: Any) -> None:
        self._fail()
        await super().release(*args)

    async def read(self, *args: Any, **more: Any) -> Any:
        self._fail()
        return await super().read(*args, **more)

    async def remove(self, *args: Any) -> None:
        self._fail()
        await super().remove(*args)

    async def put_aside(self, *args: Any) -> None:
        self._fail()
        await super().put_aside(*args)

    async def statistics(self) -> Any:
        self._fail()
        return await super().statistics()

    def _fail(self) -> None:
        if self.failing():
            raise EngineUnavailableError("away")


@attrs.define(eq=False)
class Shop:
    """One outbox with the queues of some webhooks, and an application for each."""

    webhooks: Sequence[WebhookSettings]
    outbox: FlakyOutbox
    applications: dict[str, Application]
    log: RecordingLog = attrs.Factory(RecordingLog)
    draining: trio.Event = attrs.Factory(trio.Event)
    written: int = 0

    @classmethod
    def of(cls, *webhooks: WebhookSettings) -> "Shop":
        chosen = webhooks or (webhook(kinds=("message",)),)
        now = lambda: Moment(int(virtual_wall_clock() * 1000), int(virtual_wall_clock() * 1000))  # noqa: E731
        outbox = FlakyOutbox(queues_of(Settings(webhooks=chosen)), epoch="e", now=now)
        return cls(chosen, outbox, {each.name: Application() for each in chosen})

    @property
    def application(self) -> Application:
        return next(iter(self.applications.values()))

    def write(self, count: int, *, room: str = "a") -> None:
        """Write messages with rising contents."""
        assert self.outbox.message_queues is not None
        for _ in range(count):
            self.written += 1
            event = Event(b'{"n":%d}' % self.written, 0, self.written)
            queues = self.outbox.message_queues(room)
            write_message_entry(self.outbox, queues, room, Position("r", self.written), event)

    @asynccontextmanager
    async def deliver(
        self,
        *,
        outbox: Outbox | None = None,
        stop_seconds: float = 10.0,
        wall_clock: WallClock = virtual_wall_clock,
    ) -> AsyncIterator[Sequence[Tally]]:
        """Run the deliveries of one node for the block."""

        @asynccontextmanager
        async def open_poster(
            settings: WebhookSettings, _wall_clock: WallClock
        ) -> AsyncIterator[Application]:
            yield self.applications[settings.name]

        async with open_deliveries(
            self.webhooks,
            outbox or self.outbox,
            log=self.log,
            wall_clock=wall_clock,
            random=random.Random(1),
            draining=self.draining,
            stop_seconds=stop_seconds,
            open_poster=open_poster,
        ) as tallies:
            yield tallies

    async def waiting(self, name: str | None = None) -> int:
        """Return how many entries wait in the queue of a webhook, by default the first."""
        name = name or self.webhooks[0].name
        entries = await MemoryOutbox.read(self.outbox, PARTITION, name, limit=10**9)
        return len(entries)
