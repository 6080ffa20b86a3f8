"""The durable engine of a single server: one SQLite file.

Appends are committed in groups: while one commit is written to the disk, the appends of all rooms are queued, and the
next commit takes them together. So all messages that arrive during one fsync share the next one. Reads have
connections of their own and never wait for the writer.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import TypeVar

import attrs
import trio

from broker.clocks import Clock
from broker.config.settings import SqliteSettings
from broker.engine.age_clock import EngineClock
from broker.engine.attendance import QueuesAtPlaces
from broker.engine.base import (
    Engine,
    EngineHealth,
    EngineMeter,
    EngineStatistics,
    Receipt,
    Retention,
    Run,
    is_kept,
    measured,
)
from broker.engine.outbox import Queue
from broker.engine.recent_keys import RecentKeys
from broker.engine.sqlite.file import (
    Synchronous,
    close_writer,
    open_reader,
    open_writer,
    read_boot,
    read_clock,
    read_secret,
)
from broker.engine.sqlite.location import check_path, has_log, lock_database
from broker.engine.sqlite.outbox import SqliteAttendance, SqliteOutbox
from broker.engine.sqlite.outbox_rows import has_absent
from broker.engine.sqlite.resume import Resumed, resume
from broker.engine.sqlite.revocations import SqliteRevocations
from broker.engine.sqlite.room_rows import StoreTurns, read_last_expiry
from broker.engine.sqlite.room_store import SqliteRoomStore
from broker.engine.sqlite.rows import Append, Change, Clear, Reader, Writer, ephemeral_receipts
from broker.errors import EngineTrouble, EngineUnavailableError
from broker.histograms import SizeHistogram
from broker.log import Log
from broker.model import Draft, Position, WallClock
from broker.wakeup import Wakeup

T = TypeVar("T")

READERS = 4
"""Connections for reads at the same time; a fifth read waits."""

MAX_APPENDS_PER_COMMIT = 1000
"""Bounds how long one commit can take, and so how long the next one waits."""

FAREWELL_SECONDS = 1.0
"""How long an engine that closes may take to store who has left; else the next start finds that nobody is present."""

WITNESS_DIRECTORY = Path(SqliteSettings().witness_directory)

PROBE = Append("/", (Draft(bytes(65_536)),), Retention(1, 1 << 20, 86_400.0))
"""Stored to see whether the disk has space; as large as a large message, which may not fit where a small one does.
No client can use the room's name."""


@attrs.define(eq=False)
class _Pending:
    """An append that waits for its commit."""

    append: Change
    receipts: Sequence[Receipt] = ()
    error: EngineUnavailableError | None = None
    done: trio.Event = attrs.Factory(trio.Event)

    def refuse(self, error: EngineUnavailableError) -> None:
        """End the wait with an error: nothing of the append was stored, as far as is known."""
        self.error = error
        self.done.set()


class SqliteEngine(Engine):
    """See the module; made by `open_sqlite`."""

    def __init__(
        self,
        writer: Writer,
        readers: Sequence[Reader],
        clock: EngineClock,
        log: Log,
        queues: Sequence[Queue] = (),
        *,
        has_absent: bool = False,
        last_expiry_ms: int = 0,
    ) -> None:
        """`has_absent`: the file has users who were present when the last process ended.

        `last_expiry_ms` is when the last answer in it expires, by the age clock.
        """
        self._writer = writer
        self._clock = clock
        self._log = log
        self._pending: list[_Pending] = []
        self._has_work = Wakeup()
        self._is_closed = False
        self._readers = list(readers)
        self._reading = trio.Semaphore(len(readers))
        self._is_storing_refused = False
        self._is_reading_refused = False
        self._commits = 0
        self._messages = 0
        self._batches = SizeHistogram()
        self._meter = EngineMeter([self._batches])
        self._revocations = SqliteRevocations(self._commit, self._read)
        self._outbox = (
            SqliteOutbox(queues, self._commit, self._read, lambda: clock.moment().age_ms) if queues else None
        )
        self._room_store = SqliteRoomStore(
            *(self.append, self._commit, self._read, lambda: int(clock.age() * 1000)),
            # Keys are noted before their commit, which takes less than the window.
            keys=RecentKeys(2 * writer.idempotency_ms),
            earlier_until_ms=last_expiry_ms,
        )
        at_places = QueuesAtPlaces(queues)
        self._attendance = SqliteAttendance(self._commit, at_places, has_absent)
        self._has_book = not at_places.is_empty

    @property
    def revocations(self) -> SqliteRevocations:
        """See Engine."""
        return self._revocations

    @property
    def outbox(self) -> SqliteOutbox | None:
        """See Engine."""
        return self._outbox

    @property
    def attendance(self) -> SqliteAttendance | None:
        """See Engine."""
        return self._attendance if self._has_book else None

    @property
    def room_store(self) -> SqliteRoomStore:
        """See Engine."""
        return self._room_store

    async def position(self, room: str) -> Position:
        """See Engine."""
        with measured(self._meter.position):
            return await self._read(lambda reader: reader.position(room))

    async def append(self, room: str, drafts: Sequence[Draft], retention: Retention) -> Sequence[Receipt]:
        """See Engine. If cancelled, all the drafts are stored all the same, or none of them."""
        if any(is_kept(draft) for draft in drafts):
            with measured(self._meter.append):
                return await self._commit(Append(room, drafts, retention))
        await trio.lowlevel.checkpoint_if_cancelled()
        return ephemeral_receipts(drafts, self._clock.moment().time_ms)

    async def read(
        self, room: str, *, after: int = 0, limit: int | None = None, reverse: bool = False
    ) -> Run:
        """See Engine."""
        age_ms = int(self._clock.age() * 1000)
        with measured(self._meter.read):
            return await self._read(
                lambda reader: reader.run(room, after=after, limit=limit, reverse=reverse, age_ms=age_ms)
            )

    async def clear(self, room: str) -> int:
        """See Engine. If cancelled, the events are deleted all the same, or none of them."""
        clearing = Clear(room)
        with measured(self._meter.clear):
            await self._commit(clearing)
        return clearing.deleted

    async def wait_ready(self) -> None:
        """See Engine: after a failed commit, try another one."""
        if self._is_storing_refused:
            await self._commit(PROBE)
        await trio.lowlevel.checkpoint()

    def statistics(self) -> EngineStatistics:
        """Return a snapshot."""
        return EngineStatistics(self._commits, self._messages, len(self._pending))

    @property
    def meter(self) -> EngineMeter:
        """See Engine: `commit` is the time of a transaction alone."""
        return self._meter

    def health(self) -> EngineHealth:
        """See Engine: whether the last commit succeeded."""
        return EngineHealth(is_up=not self._is_storing_refused)

    def close(self) -> None:
        """Refuse further appends; `run_writer` commits the pending ones and returns."""
        self._is_closed = True
        self._has_work.set()

    async def run_attendance(self) -> None:
        """Write who is present, until `close_attendance`."""
        await self._attendance.run()

    async def close_attendance(self) -> None:
        """Let `run_attendance` write what was noted, for FAREWELL_SECONDS at most, and return."""
        with trio.move_on_after(FAREWELL_SECONDS):
            await self.attendance_written()
        self._attendance.close()

    async def attendance_written(self) -> None:
        """Wait until all is written that was noted of who is present."""
        await self._attendance.wait_written()

    async def _read(self, read: Callable[[Reader], T]) -> T:
        async with self._reading:
            reader = self._readers.pop()
            try:
                result = await trio.to_thread.run_sync(read, reader)
            except sqlite3.Error as error:
                if not self._is_reading_refused:
                    self._is_reading_refused = True
                    self._log.exception("engine cannot read", exc_info=error)
                raise _unavailable(error, EngineTrouble.CANNOT_READ) from error
            else:
                self._is_reading_refused = False
                return result
            finally:
                self._readers.append(reader)

    async def _commit(self, append: Change) -> Sequence[Receipt]:
        if self._is_closed:
            raise EngineUnavailableError("the engine is closed")
        pending = _Pending(append)
        self._pending.append(pending)
        self._has_work.set()
        await pending.done.wait()
        if pending.error is not None:
            raise pending.error
        return pending.receipts

    async def run_writer(self) -> None:
        """Commit pending appends until closed and none is left. If cancelled, the commit in progress is finished."""
        try:
            while self._pending or not self._is_closed:
                await self._has_work.wait()
                while self._pending:
                    batch = self._pending[:MAX_APPENDS_PER_COMMIT]
                    await self._commit_batch(batch)
                    del self._pending[: len(batch)]
        finally:
            self._is_closed = True
            for pending in self._pending:
                if not pending.done.is_set():
                    pending.refuse(EngineUnavailableError("the engine is closed"))

    async def _commit_batch(self, batch: Sequence[_Pending]) -> None:
        """Commit appends together, or end them with the error; if a faulty append is among them, each by itself."""
        appends = [pending.append for pending in batch]
        entries_before = self._writer.outbox.written
        try:
            # Not abandoned on cancellation: a commit is bounded by MAX_APPENDS_PER_COMMIT.
            now, note = self._clock.moment(), self._clock.note()
            with measured(self._meter.commit):
                results = await trio.to_thread.run_sync(self._writer.append, appends, now, note)
        except sqlite3.OperationalError as error:
            self._refuse(batch, error)
        except Exception as error:  # noqa: BLE001  # logged
            if len(batch) == 1:
                self._refuse(batch, error)
                return
            for pending in batch:
                await self._commit_batch([pending])
        else:
            if self._outbox is not None and self._writer.outbox.written > entries_before:
                self._outbox.entries_written()
            self._answer(batch, results)

    def _answer(self, batch: Sequence[_Pending], results: Sequence[Sequence[Receipt]]) -> None:
        if any(
            _has_content(pending.append, receipts) for pending, receipts in zip(batch, results, strict=True)
        ):
            self._is_storing_refused = False
        self._commits += 1
        self._batches.note(len(batch))
        for pending, receipts in zip(batch, results, strict=True):
            self._messages += len(receipts)
            pending.receipts = receipts
            pending.done.set()

    def _refuse(self, batch: Sequence[_Pending], error: Exception) -> None:
        if not self._is_storing_refused:
            self._is_storing_refused = True
            self._log.exception("engine cannot store", exc_info=error)
        refusal = _unavailable(error, EngineTrouble.CANNOT_STORE)
        for pending in batch:
            pending.refuse(refusal)


def _has_content(change: Change, receipts: Sequence[Receipt]) -> bool:
    """Whether a change that was made has stored content; one without succeeds on a full disk too."""
    if isinstance(change, StoreTurns):
        return change.has_content
    return any(receipt.event is not None for receipt in receipts)


def _unavailable(error: Exception, trouble: EngineTrouble) -> EngineUnavailableError:
    """Map SQLite's error; the only place where they are mapped."""
    if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        trouble = EngineTrouble.FULL
    return EngineUnavailableError(str(error), trouble=trouble)


def _log_resumed(resumed: Resumed, path: Path, log: Log) -> None:
    if resumed.reset_reason is not None:
        log.warning("rooms begin new epochs", file=str(path), reason=resumed.reset_reason)
    if resumed.no_witness_reason is not None:
        log.warning("rooms will begin new epochs at the next start", reason=resumed.no_witness_reason)


@asynccontextmanager
async def open_sqlite(
    path: Path,
    *,
    synchronous: Synchronous,
    idempotency_seconds: float,
    wall_clock: WallClock,
    log: Log,
    boot_clock: Clock | None = None,
    boot: str | None = None,
    witness_directory: Path = WITNESS_DIRECTORY,
    queues: Sequence[Queue] = (),
) -> AsyncIterator[SqliteEngine]:
    """Open the engine on a file, which is made if it does not exist; leaving the block commits pending appends.

    Ages and windows are measured by `boot_clock`, see `broker.engine.age_clock`; without one, by the wall clock.
    `boot` is the id of the machine's present boot, by default the system's. If the file does not match its witness in
    `witness_directory`, all rooms begin new epochs.

    :raises ConfigurationError: if the file is in use, another program's, corrupt, or cannot be opened.
    """
    path = check_path(path)
    with ExitStack() as stack:
        stack.enter_context(await trio.to_thread.run_sync(lock_database, path))
        boot = read_boot() if boot is None else boot
        had_log = has_log(path)
        connection = await trio.to_thread.run_sync(open_writer, path, synchronous)
        stack.callback(close_writer, connection)
        resume_file = partial(resume, connection, path, witness_directory, boot, had_log=had_log)
        resumed = await trio.to_thread.run_sync(resume_file)
        stack.callback(resumed.witness.close)
        _log_resumed(resumed, path, log)
        secret = read_secret(connection)
        readers = [Reader(stack.enter_context(closing(open_reader(path))), secret) for _ in range(READERS)]
        writer = Writer(
            *(connection, path, resumed),
            secret=secret,
            idempotency_seconds=idempotency_seconds,
            queues=queues,
        )
        note, latest_ms = read_clock(connection)
        clock = EngineClock(wall_clock, log, boot_clock=boot_clock, boot=boot, note=note, latest_ms=latest_ms)
        engine = SqliteEngine(
            *(writer, readers, clock, log, queues),
            has_absent=has_absent(connection),
            last_expiry_ms=read_last_expiry(connection),
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run_writer)
            nursery.start_soon(engine.run_attendance)
            yield engine
            await engine.close_attendance()
            engine.close()
