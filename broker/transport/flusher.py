"""Writes the queues of all outboxes, behind each turn of trio's scheduler, in one task.

A write amid a room's turn costs more than the system call: kernel and interpreter evict each other from the
processor's caches. Written together behind the turn, small rooms cost a third less, and several frames for one
connection leave in one segment. A large room writes frames to its members itself, in time slices
(`broker.rooms.fanout`); the flusher writes what is queued behind others.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NoReturn, TypeAlias

import trio

from broker.histograms import SizeHistogram

WRITES_PER_CLOCK_READ = 32
BYTES_PER_CLOCK_READ = 65_536
"""Read the clock only once per this many writes, or bytes: a small write takes some 5 µs, a large one many times that."""

SLICE_SECONDS = 0.001
"""Time slice of the writes, before other tasks run."""

Flush: TypeAlias = Callable[[], int]
"""Writes one queue; returns how many bytes that was."""


class Flusher:
    """Calls scheduled flushes, each once, soon and in order, while `run` is running; made by `open_flusher`."""

    def __init__(self) -> None:
        self.batches = SizeHistogram()
        """Queues that were written together behind one turn."""
        self._scheduled: deque[Flush] = deque()
        self._sleeper: trio.lowlevel.Task | None = None

    def schedule(self, flush: Flush) -> None:
        """Call `flush` behind the current turn of the scheduler. It must not raise or block."""
        self._scheduled.append(flush)
        if self._sleeper is not None:
            task, self._sleeper = self._sleeper, None
            trio.lowlevel.reschedule(task)

    async def run(self) -> NoReturn:
        """Serve until cancelled; flushes scheduled by then may not be called."""
        while True:
            if self._scheduled:
                await trio.lowlevel.checkpoint()
            else:
                await self._wait_scheduled()
            self._flush_some()

    def _flush_some(self) -> None:
        """Call scheduled flushes, until the time slice is over."""
        ends_at = trio.current_time() + SLICE_SECONDS
        scheduled = self._scheduled
        count = size = written = 0
        while scheduled:
            size += scheduled.popleft()()
            count += 1
            if count == WRITES_PER_CLOCK_READ or size >= BYTES_PER_CLOCK_READ:
                written += count
                count = size = 0
                if trio.current_time() >= ends_at:
                    break
        if written + count:
            self.batches.note(written + count)

    async def _wait_scheduled(self) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            self._sleeper = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._sleeper = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)


@asynccontextmanager
async def open_flusher() -> AsyncIterator[Flusher]:
    """Run a flusher; nothing may be scheduled any more when the block is left."""
    flusher = Flusher()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flusher.run)
        yield flusher
        nursery.cancel_scope.cancel()
