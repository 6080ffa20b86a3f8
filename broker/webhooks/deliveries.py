"""All deliveries of one node: each queue of each partition in a task of its own."""

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from random import Random

import attrs
import trio

from broker.config.settings import WebhookSettings
from broker.engine.outbox import Outbox
from broker.errors import ConfigurationError, EngineUnavailableError
from broker.log import Log
from broker.model import WallClock
from broker.traces.tracer import Tracer
from broker.webhooks.delivery import Delivery, Poster, Target
from broker.webhooks.leader import Leader
from broker.webhooks.tally import Tally
from broker.webhooks.traced import TracedPoster

SAMPLE_SECONDS = 5.0
"""How often the lengths of the queues are read for metrics."""

OpenPoster = Callable[[WebhookSettings, WallClock], AbstractAsyncContextManager[Poster]]


@asynccontextmanager
async def open_deliveries(
    webhooks: Sequence[WebhookSettings],
    outbox: Outbox | None,
    *,
    log: Log,
    wall_clock: WallClock,
    random: Random,
    draining: trio.Event,
    stop_seconds: float,
    open_poster: OpenPoster | None = None,
    tracer: Tracer | None = None,
) -> AsyncIterator[Sequence[Tally]]:
    """Deliver the queues of `webhooks` until the end of the block, or until `draining` is set if that is before.

    From then on, requests under way have `stop_seconds` to be answered, and no more are made; what is not delivered
    stays in the outbox. `random` spreads retries.

    :raises ConfigurationError: if there are webhooks, but no outbox.
    """
    if not webhooks:
        yield ()
        return
    if outbox is None:
        raise ConfigurationError("webhooks: the engine has no outbox to deliver from")
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        targets = []
        for webhook in webhooks:
            poster = await stack.enter_async_context((open_poster or _open_receiver)(webhook, wall_clock))
            if tracer is not None:
                poster = TracedPoster(poster, tracer, webhook.name)
            targets.append(Target(webhook, poster, Tally(webhook.name, log, wall_clock)))
        deliveries = Deliveries(outbox, targets, wall_clock, random, stop_seconds)
        nursery.start_soon(deliveries.run, draining)
        yield [target.tally for target in targets]
        deliveries.begin_stop()


@attrs.define(eq=False)
class Deliveries:
    """The deliveries of one node."""

    _outbox: Outbox
    _targets: Sequence[Target]
    _wall_clock: WallClock
    _random: Random
    _stop_seconds: float
    _scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    _stopping: trio.Event = attrs.Factory(trio.Event)

    def begin_stop(self) -> None:
        """Make no further request, and end those that are under way after `stop_seconds`."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._scope.deadline = trio.current_time() + self._stop_seconds

    async def run(self, draining: trio.Event) -> None:
        """Deliver until `begin_stop`, or until `draining` is set."""
        holder = secrets.token_hex(8)
        with self._scope:
            async with trio.open_nursery() as helpers:
                helpers.start_soon(self._stop_at, draining)
                async with trio.open_nursery() as nursery:
                    for partition in self._outbox.partitions:
                        leader = Leader(self._outbox, partition, holder, self._stopping)
                        nursery.start_soon(leader.run, partial(self._deliver, partition))
                helpers.cancel_scope.cancel()

    async def _stop_at(self, draining: trio.Event) -> None:
        await draining.wait()
        self.begin_stop()

    async def _deliver(self, partition: str, fence: int) -> None:
        """Deliver all queues of a partition under a lease."""
        try:
            async with trio.open_nursery() as helpers:
                helpers.start_soon(self._sample, partition)
                async with trio.open_nursery() as nursery:
                    for target in self._targets:
                        delivery = Delivery(
                            *(self._outbox, partition, fence, target),
                            *(self._wall_clock, self._random, self._stopping),
                        )
                        nursery.start_soon(delivery.run)
                helpers.cancel_scope.cancel()
        finally:
            for target in self._targets:
                target.tally.queues.pop(partition, None)

    async def _sample(self, partition: str) -> None:
        """Read the lengths of the queues of a partition again and again."""
        tallies = {target.settings.name: target.tally for target in self._targets}
        while True:
            with suppress(EngineUnavailableError):
                for queue in await self._outbox.statistics():
                    if queue.partition == partition and queue.queue in tallies:
                        tallies[queue.queue].queues[partition] = queue
            await trio.sleep(SAMPLE_SECONDS)


def _open_receiver(webhook: WebhookSettings, wall_clock: WallClock) -> AbstractAsyncContextManager[Poster]:
    # Takes a tenth of a second to import, and many servers have no webhooks.
    from broker.webhooks.receiver import open_receiver  # noqa: PLC0415

    return open_receiver(webhook, wall_clock)
