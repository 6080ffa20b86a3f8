"""The durable engine of a single server: one SQLite file.

What waits is one transaction: while one commit is on its way to the disk, the appends of all rooms gather, and the
next commit takes them together. So the cost of an fsync is shared by as many messages as came in while the one
before it ran (group commit). Reads have connections of their own and never wait for the writer.
"""

import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path

import attrs
import trio

from broker.engine.base import Engine, EngineStatistics, Receipt, Retention, Run
from broker.engine.sqlite_file import (
    Append,
    Appended,
    Synchronous,
    Writer,
    lock_file,
    open_reader,
    open_writer,
    read_run,
)
from broker.errors import EngineUnavailableError
from broker.log import Log
from broker.model import Draft, Position, WallClock

READERS = 4
"""Connections that read at the same time; a fifth read waits."""

MAX_APPENDS_PER_COMMIT = 1000
"""Bounds how long one commit can take, and so how long the next one waits."""

PROBE = Append("/", (Draft(bytes(65_536)),), Retention(1, 1 << 20, 86_400.0))
"""What is stored to see whether the disk has space: as much as a large message, or it could go where a small one
still can. Any room would do; this name no client can use."""


@attrs.define(eq=False)
class _Pending:
    """An append that waits for its commit."""

    append: Append
    appended: Appended | None = None
    error: EngineUnavailableError | None = None
    done: trio.Event = attrs.Factory(trio.Event)


class SqliteEngine(Engine):
    """See the module's docstring; made by `open_sqlite`."""

    def __init__(
        self, writer: Writer, readers: Sequence[sqlite3.Connection], wall_clock: WallClock, log: Log
    ) -> None:
        self._writer = writer
        self._wall_clock = wall_clock
        self._log = log
        self._pending: list[_Pending] = []
        self._work = trio.Event()
        self._readers = list(readers)
        self._reading = trio.Semaphore(len(readers))
        self._failure: str | None = None
        self._commits = 0
        self._messages = 0

    async def position(self, room: str) -> Position:
        """See Engine."""
        appended = await self._commit(Append(room))
        return appended.position

    async def append(self, room: str, drafts: Sequence[Draft], retention: Retention) -> Sequence[Receipt]:
        """See Engine. If cancelled, the drafts are stored all the same, or none of them."""
        return (await self._commit(Append(room, drafts, retention))).receipts

    async def read(
        self, room: str, *, after: int = 0, limit: int | None = None, reverse: bool = False
    ) -> Run:
        """See Engine."""
        now_ms = int(self._wall_clock() * 1000)
        read = partial(read_run, room=room, after=after, limit=limit, reverse=reverse, now_ms=now_ms)
        async with self._reading:
            connection = self._readers.pop()
            try:
                run = await trio.to_thread.run_sync(read, connection)
            except sqlite3.Error as error:
                raise EngineUnavailableError(f"cannot read: {error}") from error
            finally:
                self._readers.append(connection)
        if run is None:
            return Run(await self.position(room), 1, ())
        return run

    async def wait_ready(self) -> None:
        """See Engine: after a failed commit, whether one goes through now."""
        if self._failure is not None:
            await self._commit(PROBE)
        await trio.lowlevel.checkpoint()

    def statistics(self) -> EngineStatistics:
        """Return a snapshot."""
        return EngineStatistics(self._commits, self._messages, len(self._pending))

    async def _commit(self, append: Append) -> Appended:
        pending = _Pending(append)
        self._pending.append(pending)
        self._work.set()
        await pending.done.wait()
        if pending.error is not None:
            raise pending.error
        assert pending.appended is not None
        return pending.appended

    async def run_writer(self) -> None:
        """Commit what waits, again and again, until cancelled; what has begun is finished."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            while self._pending:
                batch = self._pending[:MAX_APPENDS_PER_COMMIT]
                del self._pending[:MAX_APPENDS_PER_COMMIT]
                await self._commit_batch(batch)

    async def _commit_batch(self, batch: Sequence[_Pending]) -> None:
        appends = [pending.append for pending in batch]
        now_ms = int(self._wall_clock() * 1000)
        try:
            # Not abandoned on cancellation: a commit takes its time and no more.
            results = await trio.to_thread.run_sync(self._writer.append, appends, now_ms)
        except sqlite3.Error as error:
            self._fail(batch, error)
            return
        except BaseException:
            # Cancelled before the thread ran, or a fault of ours: nobody may hang.
            self._fail(batch, None)
            raise
        if any(_has_stored(appended) for appended in results):
            # A commit with nothing to write goes through on a full disk too.
            self._failure = None
        self._commits += 1
        for pending, appended in zip(batch, results, strict=True):
            self._messages += len(pending.append.drafts)
            pending.appended = appended
            pending.done.set()

    def _fail(self, batch: Sequence[_Pending], error: sqlite3.Error | None) -> None:
        """Answer that nothing of a batch was stored, as far as is known."""
        reason = "the engine is closing" if error is None else f"cannot store: {error}"
        if error is not None and self._failure is None:
            self._log.error("engine cannot store", reason=str(error))
        self._failure = reason
        for pending in batch:
            pending.error = EngineUnavailableError(reason)
            pending.done.set()


def _has_stored(appended: Appended) -> bool:
    return any(receipt.event is not None and receipt.position is not None for receipt in appended.receipts)


@asynccontextmanager
async def open_sqlite(
    path: Path,
    *,
    synchronous: Synchronous,
    idempotency_seconds: float,
    wall_clock: WallClock,
    log: Log,
    make_epoch: Callable[[], str] = lambda: secrets.token_hex(8),
) -> AsyncIterator[SqliteEngine]:
    """Open the engine on a file, which is made if it is not there; leaving the block finishes the last commit.

    :raises ConfigurationError: if the file is in use, not ours, corrupt, or cannot be opened.
    """
    with ExitStack() as stack:
        stack.enter_context(await trio.to_thread.run_sync(lock_file, path))
        connection = stack.enter_context(
            closing(await trio.to_thread.run_sync(open_writer, path, synchronous))
        )
        readers = [stack.enter_context(closing(open_reader(path))) for _ in range(READERS)]
        writer = Writer(connection, idempotency_seconds=idempotency_seconds, make_epoch=make_epoch)
        engine = SqliteEngine(writer, readers, wall_clock, log)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run_writer)
            yield engine
            nursery.cancel_scope.cancel()
