"""The outbox in Redis: the queues of each server's rooms are on that server, which is a partition."""

from collections.abc import Callable, Iterable, Sequence

import msgspec
import trio

from broker.engine.outbox import (
    POLL_SECONDS,
    AsideEntry,
    Entry,
    FencedError,
    Outbox,
    Queue,
    QueueStatistics,
)
from broker.engine.redis.keyspace import Keyspace, OutboxKeys
from broker.engine.redis.packed_queues import pack_outbox, pack_queue
from broker.engine.redis.replies import parse_aside, parse_count, parse_entries, parse_queue_counts
from broker.engine.redis.scripts import Scripts
from broker.engine.redis.server import RedisServer
from broker.wakeup import Wakeup

REPEATED_AT_ONCE = 1000
"""Most entries that one script returns to a queue, as no other request is served meanwhile."""


class _News:
    """Wakes the readers of the queues of one server; the listener on its channel."""

    def __init__(self, queues: Iterable[Queue]) -> None:
        self.of = {queue.name: Wakeup() for queue in queues}

    def arrived(self, payload: bytes) -> None:
        """See Listener: the queue named was empty, and is not any more."""
        news = self.of.get(payload.decode(errors="replace"))
        if news is not None:
            news.set()

    def fell_behind(self) -> None:
        """See Listener."""
        for news in self.of.values():
            news.set()


class RedisOutbox(Outbox):
    """See Outbox."""

    def __init__(
        self,
        queues: Sequence[Queue],
        servers: Sequence[RedisServer],
        scripts: Scripts,
        keyspace: Keyspace,
        now_ms: Callable[[], int],
    ) -> None:
        self._queues = {queue.name: queue for queue in queues}
        self._servers = {server.name: server for server in servers}
        self._scripts = scripts
        self._keys: OutboxKeys = keyspace.outbox
        self._now_ms = now_ms
        self._news = {name: _News(queues) for name in self._servers}
        for server in servers:
            server.subscriptions.keep_subscribed(self._keys.channel, self._news[server.name])

    @property
    def partitions(self) -> Sequence[str]:
        """See Outbox: the servers."""
        return tuple(self._servers)

    async def lease(self, partition: str, holder: str, seconds: float) -> int | None:
        """See Outbox."""
        fence = await self._scripts.outbox_lease.run(
            self._servers[partition].link,
            (self._keys.lease, self._keys.fence),
            *(holder, max(1, int(seconds * 1000))),
            parse=parse_count,
        )
        return fence or None

    async def release(self, partition: str, holder: str) -> None:
        """See Outbox."""
        await self._scripts.outbox_lease.run(
            *(self._servers[partition].link, (self._keys.lease, self._keys.fence), holder, 0),
            parse=parse_count,
        )

    async def read(self, partition: str, queue: str, *, limit: int, after: int = 0) -> Sequence[Entry]:
        """See Outbox."""
        self._news[partition].of[queue].clear()
        packed = msgspec.msgpack.encode(
            {"outbox": pack_outbox(self._keys), "queue": pack_queue(self._queues[queue])}
        )
        return await self._scripts.outbox_read.run(
            *(self._servers[partition].link, (), packed, self._now_ms(), after, limit),
            parse=parse_entries,
        )

    async def remove(self, partition: str, queue: str, numbers: Sequence[int], fence: int) -> None:
        """See Outbox."""
        await self._take(partition, queue, numbers, fence, ("", ""))

    async def put_aside(
        self, partition: str, queue: str, numbers: Sequence[int], reason: str, fence: int
    ) -> None:
        """See Outbox."""
        await self._take(partition, queue, numbers, fence, (self._now_ms(), reason))

    async def _take(
        self,
        partition: str,
        queue: str,
        numbers: Sequence[int],
        fence: int,
        aside: tuple[str | int, str],
    ) -> None:
        keys = self._keys
        is_done = await self._scripts.outbox_take.run(
            self._servers[partition].link,
            (keys.fence, keys.waiting(queue), keys.aside(queue)),
            *(fence, *aside, *numbers),
            parse=parse_count,
        )
        if not is_done:
            raise FencedError(f"{partition}: the lease with the fencing number {fence} has a newer holder")

    async def list_aside(
        self, partition: str, queue: str, *, limit: int, after: int = 0
    ) -> Sequence[AsideEntry]:
        """See Outbox."""
        return await self._servers[partition].link.request(
            *("ZRANGEBYSCORE", self._keys.aside(queue), f"({after}", "+inf", "LIMIT", 0, limit),
            parse=parse_aside,
        )

    async def repeat(self, partition: str, queue: str, numbers: Sequence[int] | None = None) -> int:
        """See Outbox."""
        count = 0
        while True:
            repeated = await self._scripts.outbox_repeat.run(
                self._servers[partition].link,
                (self._keys.aside(queue), self._keys.waiting(queue)),
                *(self._now_ms(), self._keys.channel, queue, REPEATED_AT_ONCE),
                *(int(numbers is not None), *(numbers or ())),
                parse=parse_count,
            )
            count += repeated
            if numbers is not None or repeated < REPEATED_AT_ONCE:
                return count

    async def statistics(self) -> Sequence[QueueStatistics]:
        """See Outbox."""
        found = []
        for name, server in self._servers.items():
            for queue in self._queues:
                waiting, oldest_ms, aside = await self._scripts.outbox_count.run(
                    server.link,
                    (self._keys.waiting(queue), self._keys.aside(queue)),
                    parse=parse_queue_counts,
                )
                found.append(QueueStatistics(name, queue, waiting, oldest_ms, aside))
        return found

    async def wait_new(self, partition: str, queue: str) -> None:
        """See Outbox."""
        with trio.move_on_after(POLL_SECONDS):
            await self._news[partition].of[queue].wait()
