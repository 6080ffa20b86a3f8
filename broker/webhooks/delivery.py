"""Delivers one queue of one partition, while this node has the lease of the partition."""

from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Protocol, TypeVar

import attrs
import trio

from broker.config.settings import WebhookSettings
from broker.engine.outbox import Entry, Outbox
from broker.errors import EngineUnavailableError
from broker.model import WallClock
from broker.webhooks.batches import Batch, make_batch
from broker.webhooks.progress import Failure, Post, Progress, PutAside, Wait, longest_pause
from broker.webhooks.tally import Tally

T = TypeVar("T")

MOST_ENGINE_PAUSE_SECONDS = 10.0
"""Longest pause between attempts to reach an engine that is away."""


class Poster(Protocol):
    """Posts batches; see `broker.webhooks.receiver.Receiver`."""

    async def post(self, batch: Batch, traceparent: str | None = None) -> Failure | None:
        """Post a batch, with the header `traceparent` if there is one; returns None once it was taken."""
        ...


@attrs.frozen
class Target:
    """A webhook and what delivers to it."""

    settings: WebhookSettings
    poster: Poster
    tally: Tally


@attrs.define(eq=False)
class Delivery:
    """The delivery of one queue of one partition under one lease."""

    _outbox: Outbox
    _partition: str
    _fence: int
    _target: Target
    _wall_clock: WallClock
    _random: Random
    _stopping: trio.Event

    async def run(self) -> None:
        """Deliver until `stopping` is set; a request that is under way then is finished first.

        If cancelled, a request under way is ended, and its entries are delivered again by the next holder of the lease.

        :raises FencedError: if the partition has a newer holder.
        """
        settings = self._target.settings
        progress = Progress(settings.give_up_seconds * 1000, self._random)
        entries: tuple[Entry, ...] = ()
        while not self._stopping.is_set():
            if not entries:
                entries = await self._read()
                continue
            now, now_ms = trio.current_time(), int(self._wall_clock() * 1000)
            match progress.next_step(entries, now=now, now_ms=now_ms):
                case Wait(seconds):
                    with trio.move_on_after(seconds):
                        await self._stopping.wait()
                case PutAside(numbers, reason):
                    await self._put_aside(numbers, reason)
                    progress.put_aside(numbers)
                    entries = tuple(entry for entry in entries if entry.number not in numbers)
                case Post():
                    batch = make_batch(entries)
                    entries = batch.entries
                    failure = await self._target.poster.post(batch)
                    if failure is not None:
                        self._target.tally.failed(failure)
                        progress.failed(entries, failure, now=trio.current_time())
                        continue
                    self._target.tally.delivered(len(entries))
                    progress.delivered()
                    await self._remove(batch.numbers)
                    entries = ()

    async def _read(self) -> tuple[Entry, ...]:
        """Return the first entries of the queue, or none after a while; ends when `stopping` is set."""
        name = self._target.settings.name
        found: tuple[Entry, ...] = ()

        async def read_or_wait() -> None:
            nonlocal found
            read = partial(self._outbox.read, self._partition, name, limit=self._target.settings.batch)
            found = tuple(await self._patiently(read))
            if not found:
                await self._patiently(partial(self._outbox.wait_new, self._partition, name))

        await _run_until(self._stopping, read_or_wait)
        return found

    async def _remove(self, numbers: tuple[int, ...]) -> None:
        name = self._target.settings.name
        await self._patiently(partial(self._outbox.remove, self._partition, name, numbers, self._fence))

    async def _put_aside(self, numbers: tuple[int, ...], reason: str) -> None:
        name = self._target.settings.name
        call = partial(self._outbox.put_aside, self._partition, name, numbers, reason, self._fence)
        await self._patiently(call)
        self._target.tally.put_aside(len(numbers), reason)

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call the engine until it answers, with backoff; without a limit, as the lease has one."""
        failures = 0
        while True:
            try:
                return await call()
            except EngineUnavailableError:
                failures += 1
                cap = min(MOST_ENGINE_PAUSE_SECONDS, longest_pause(failures))
                await trio.sleep(self._random.uniform(0.0, cap))


async def _run_until(event: trio.Event, function: Callable[[], Awaitable[None]]) -> None:
    """Run `function`, and cancel it when `event` is set."""
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        await function()
        nursery.cancel_scope.cancel()
