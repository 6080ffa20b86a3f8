"""Holds the lease of a partition, so that one node at a time delivers from it."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import attrs
import trio

from broker.engine.outbox import FencedError, Outbox
from broker.errors import EngineUnavailableError

LEASE_SECONDS = 5.0
"""How long a lease lasts without being renewed; so long after the death of a node another one takes over."""

RENEW_SECONDS = LEASE_SECONDS / 4
"""How often a lease is renewed, and asked for while another node has it."""

RELEASE_SECONDS = 0.5
"""How long the release of a lease may take at a stop; if it fails, the lease runs out."""

Work = Callable[[int], Awaitable[None]]
"""Works under a lease with the given fencing number, until it has been told to stop."""


@attrs.define(eq=False)
class Leader:
    """One node's part in the leadership of a partition."""

    _outbox: Outbox
    partition: str
    _holder: str
    _stopping: trio.Event

    async def run(self, work: Work) -> None:
        """Run `work` whenever this node has the lease, until `stopping` is set; `work` ends by itself then.

        When the lease is lost, or is not renewed in time, `work` is cancelled. The lease is released at the end.
        """
        try:
            while not self._stopping.is_set():
                asked_at = trio.current_time()
                with suppress(EngineUnavailableError):
                    fence = await self._outbox.lease(self.partition, self._holder, LEASE_SECONDS)
                    if fence is not None:
                        await self._lead(work, fence, asked_at + LEASE_SECONDS)
                with trio.move_on_after(RENEW_SECONDS):
                    await self._stopping.wait()
        finally:
            deadline = trio.current_time() + RELEASE_SECONDS
            with trio.CancelScope(shield=True, deadline=deadline), suppress(EngineUnavailableError):
                await self._outbox.release(self.partition, self._holder)

    async def _lead(self, work: Work, fence: int, until: float) -> None:
        """Run `work` under a lease that lasts until `until`, and is renewed meanwhile."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.cancel_scope.deadline = until
                nursery.start_soon(self._renew, fence, nursery.cancel_scope)
                await work(fence)
                nursery.cancel_scope.cancel()
        except* FencedError:
            # Another node has the lease.
            pass

    async def _renew(self, fence: int, scope: trio.CancelScope) -> None:
        """Renew the lease again and again, and end `scope` with it."""
        while True:
            await trio.sleep(RENEW_SECONDS)
            asked_at = trio.current_time()
            try:
                renewed = await self._outbox.lease(self.partition, self._holder, LEASE_SECONDS)
            except EngineUnavailableError:
                continue
            if renewed != fence:
                scope.cancel()
                return
            scope.deadline = asked_at + LEASE_SECONDS
