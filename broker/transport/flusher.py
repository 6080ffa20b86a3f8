"""Writes the queues of all outboxes, behind each turn of trio's scheduler, in one task.

A write amid a room's turn costs more than the system call: kernel and interpreter evict each other from the
processor's caches. Written together behind the turn, small rooms cost a third less, and several frames for one
connection leave in one segment.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import NoReturn, TypeAlias

import trio

WRITES_PER_CLOCK_READ = 32
BYTES_PER_CLOCK_READ = 65_536
"""Read the clock only once per this many writes, or bytes: a small write takes some 5 µs, a large one many times that."""

SLICE_SECONDS = 0.001
"""Time slice of the writes, and another one of bulk, before other tasks run."""

NEW_BULK_SHARE = 1 / 3
"""Share of the bulk time slice spent on the newest batch; the oldest batch gets the rest. The newest batch starts with
the sender. Echoing to it early lets it send again, so that later recipients get several messages per write: more
throughput, longer tail. From 1/3 to 1/2, a large room gains 5 % of throughput and 20 % of its longest delays."""

Flush: TypeAlias = Callable[[], int]
"""Writes one queue; returns how many bytes that was."""


class Flusher:
    """Calls scheduled flushes, each once and soon, while `run` is running; made by `open_flusher`.

    They are called in order. Frames for many members are bulk and have a queue of their own, so that a huge room
    delays no other; of bulk, some of the newest go before the oldest, so that the members at the end get both in one
    write.
    """

    def __init__(self) -> None:
        self._scheduled: deque[Flush] = deque()
        self._new_bulk: list[Flush] = []
        self._old_bulk: deque[Iterator[Flush]] = deque()
        self._sleeper: trio.lowlevel.Task | None = None

    def schedule(self, flush: Flush, *, is_bulk: bool = False) -> None:
        """Call `flush` behind the current turn of the scheduler. It must not raise or block."""
        (self._new_bulk if is_bulk else self._scheduled).append(flush)
        if self._sleeper is not None:
            task, self._sleeper = self._sleeper, None
            trio.lowlevel.reschedule(task)

    async def run(self) -> NoReturn:
        """Serve until cancelled; flushes scheduled by then may not be called."""
        while True:
            if self._scheduled or self._new_bulk or self._old_bulk:
                await trio.lowlevel.checkpoint()
            else:
                await self._wait_scheduled()
            if self._scheduled:
                _call_some(_popped(self._scheduled), SLICE_SECONDS)
            self._flush_bulk()

    def _flush_bulk(self) -> None:
        if self._new_bulk:
            new, self._new_bulk = iter(self._new_bulk), []
            if not _call_some(new, SLICE_SECONDS * NEW_BULK_SHARE):
                self._old_bulk.append(new)
        if self._old_bulk and _call_some(self._old_bulk[0], SLICE_SECONDS * (1 - NEW_BULK_SHARE)):
            self._old_bulk.popleft()

    async def _wait_scheduled(self) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            self._sleeper = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._sleeper = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)


def _popped(flushes: deque[Flush]) -> Iterator[Flush]:
    while flushes:
        yield flushes.popleft()


def _call_some(flushes: Iterator[Flush], seconds: float) -> bool:
    """Call flushes until the time is up; returns whether all were called."""
    ends_at = trio.current_time() + seconds
    count = size = 0
    for flush in flushes:
        size += flush()
        count += 1
        if count == WRITES_PER_CLOCK_READ or size >= BYTES_PER_CLOCK_READ:
            if trio.current_time() >= ends_at:
                return False
            count = size = 0
    return True


@asynccontextmanager
async def open_flusher() -> AsyncIterator[Flusher]:
    """Run a flusher; nothing may be scheduled any more when the block is left."""
    flusher = Flusher()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flusher.run)
        yield flusher
        nursery.cancel_scope.cancel()
