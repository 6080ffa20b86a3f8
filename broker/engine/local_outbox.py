"""The common part of the outboxes of a single process: the only partition, its lease, and the wake-ups of its readers."""

from collections.abc import Iterable, Sequence

import attrs
import trio

from broker.engine.outbox import POLL_SECONDS, FencedError, Outbox, Queue
from broker.wakeup import Wakeup


@attrs.define
class LocalLease:
    """See `Outbox.lease`. The times are trio's; the fencing numbers begin anew with the process, as all holders do."""

    holder: str | None = None
    fence: int = 0
    until: float = 0.0

    def take(self, holder: str, seconds: float) -> int | None:
        """See `Outbox.lease`."""
        now = trio.current_time()
        is_held = self.holder is not None and now < self.until
        if is_held and self.holder != holder:
            return None
        if not is_held:
            self.fence += 1
        self.holder, self.until = holder, now + seconds
        return self.fence

    def release(self, holder: str) -> None:
        """See `Outbox.release`."""
        if self.holder == holder:
            self.holder = None

    def check(self, fence: int) -> None:
        """Check that no newer holder exists.

        :raises FencedError: if one does.
        """
        if fence != self.fence:
            raise FencedError(f"the lease has the fencing number {self.fence}, not {fence}")


class LocalOutbox(Outbox):
    """An outbox with one partition. As it is for one process, the lease need not be stored."""

    def __init__(self, partition: str, queues: Iterable[Queue]) -> None:
        self._partition = partition
        self._lease = LocalLease()
        self._news = {queue.name: Wakeup() for queue in queues}
        """To be set when a queue gets entries, and cleared when a read of it begins."""

    @property
    def partitions(self) -> Sequence[str]:
        """See Outbox."""
        return (self._partition,)

    async def lease(self, partition: str, holder: str, seconds: float) -> int | None:  # noqa: ARG002
        """See Outbox."""
        await trio.lowlevel.checkpoint_if_cancelled()
        return self._lease.take(holder, seconds)

    async def release(self, partition: str, holder: str) -> None:  # noqa: ARG002
        """See Outbox."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._lease.release(holder)

    async def wait_new(self, partition: str, queue: str) -> None:  # noqa: ARG002
        """See Outbox."""
        with trio.move_on_after(POLL_SECONDS):
            await self._news[queue].wait()
