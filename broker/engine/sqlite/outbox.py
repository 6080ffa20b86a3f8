"""The outbox in the SQLite file, and what notes the users who come and leave."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import attrs
import trio

from broker.engine.attendance import Attendance, QueuesAtPlaces
from broker.engine.local_outbox import LocalOutbox
from broker.engine.outbox import (
    AsideEntry,
    Entry,
    Queue,
    QueueStatistics,
    info_fields,
)
from broker.engine.sqlite.outbox_rows import (
    PARTITION,
    Attend,
    LeaveAll,
    OutboxChange,
    Presence,
    PutAside,
    Remove,
    Repeat,
    WriteDue,
    count_entries,
    has_due,
    read_aside,
    read_waiting,
)
from broker.engine.sqlite.rows import Reader
from broker.errors import EngineUnavailableError
from broker.wakeup import Wakeup

RETRY_SECONDS = 0.5

Commit = Callable[[OutboxChange], Awaitable[object]]


class SqliteOutbox(LocalOutbox):
    """See Outbox; written in the same commits as the events of rooms."""

    def __init__(
        self,
        queues: Iterable[Queue],
        commit: Commit,
        read: Callable[[Callable[[Reader], Any]], Awaitable[Any]],
        age_ms: Callable[[], int],
    ) -> None:
        """`age_ms` returns the time of the age clock."""
        super().__init__(PARTITION, queues)
        self._commit = commit
        self._read = read
        self._age_ms = age_ms

    def entries_written(self) -> None:
        """Wake the readers, as a commit has written entries."""
        for news in self._news.values():
            news.set()

    async def read(self, partition: str, queue: str, *, limit: int, after: int = 0) -> Sequence[Entry]:  # noqa: ARG002
        """See Outbox."""
        self._news[queue].clear()
        age_ms = self._age_ms()
        if await self._read(lambda reader: has_due(reader.connection, queue, age_ms)):
            await self._commit(WriteDue(queue))
        found: list[Entry] = await self._read(
            lambda reader: read_waiting(reader.connection, queue, after, limit)
        )
        return found

    async def remove(self, partition: str, queue: str, numbers: Sequence[int], fence: int) -> None:  # noqa: ARG002
        """See Outbox."""
        self._lease.check(fence)
        await self._commit(Remove(queue, numbers))

    async def put_aside(
        self,
        partition: str,  # noqa: ARG002
        queue: str,
        numbers: Sequence[int],
        reason: str,
        fence: int,
    ) -> None:
        """See Outbox."""
        self._lease.check(fence)
        await self._commit(PutAside(queue, numbers, reason))

    async def list_aside(
        self,
        partition: str,  # noqa: ARG002
        queue: str,
        *,
        limit: int,
        after: int = 0,
    ) -> Sequence[AsideEntry]:
        """See Outbox."""
        found: list[AsideEntry] = await self._read(
            lambda reader: read_aside(reader.connection, queue, after, limit)
        )
        return found

    async def repeat(self, partition: str, queue: str, numbers: Sequence[int] | None = None) -> int:  # noqa: ARG002
        """See Outbox."""
        repeating = Repeat(queue, numbers)
        await self._commit(repeating)
        if repeating.count:
            self._news[queue].set()
        return repeating.count

    async def statistics(self) -> Sequence[QueueStatistics]:
        """See Outbox."""
        names = list(self._news)
        found: list[QueueStatistics] = await self._read(
            lambda reader: count_entries(reader.connection, names)
        )
        return found


@attrs.define(eq=False)
class SqliteAttendance(Attendance):
    """See Attendance; `run` it in a nursery. If there are absent ones, who were present in an earlier process, they leave first."""

    _commit: Commit
    _queues: QueuesAtPlaces
    _has_absent: bool
    _changes: list[Presence] = attrs.Factory(list)
    _has_work: Wakeup = attrs.Factory(Wakeup)
    _is_writing: bool = False
    _is_closed: bool = False
    _written: Wakeup = attrs.Factory(Wakeup)

    def came(self, place: str, user_id: str, info: bytes | None) -> None:
        """See Attendance."""
        self._note(Presence(place, user_id, is_present=True, fields=info_fields(info)))

    def left(self, place: str, user_id: str) -> None:
        """See Attendance."""
        self._note(Presence(place, user_id, is_present=False, fields=info_fields(None)))

    def _note(self, change: Presence) -> None:
        if not self._queues.want(change.place):
            return
        self._changes.append(change)
        self._has_work.set()

    async def wait_written(self) -> None:
        """See Attendance."""
        while self._has_absent or self._changes or self._is_writing:
            await self._written.wait()

    def close(self) -> None:
        """Let `run` return."""
        self._is_closed = True
        self._has_work.set()

    async def run(self) -> None:
        """Write changes until closed; while nothing can be stored, those that undo each other are dropped."""
        if self._has_absent:
            await self._write(LeaveAll())
            self._has_absent = False
        self._is_writing = True
        while not self._is_closed:
            changes, self._changes = self._changes, []
            if changes:
                await self._write(Attend(changes))
            else:
                self._is_writing = False
                self._written.set()
                await self._has_work.wait()
                self._is_writing = True

    async def _write(self, change: Attend | LeaveAll) -> None:
        while not self._is_closed:
            try:
                await self._commit(change)
            except EngineUnavailableError:
                await trio.sleep(RETRY_SECONDS)
                if isinstance(change, Attend):
                    change = Attend(net_changes([*change.changes, *self._changes]))
                    self._changes = []
                else:
                    self._changes = net_changes(self._changes)
            else:
                return


def net_changes(changes: Iterable[Presence]) -> list[Presence]:
    """Return what is left of changes: of each user at each place the last one, if it does not undo the first one."""
    by_user: dict[tuple[str, str], list[Presence]] = {}
    for change in changes:
        by_user.setdefault((change.place, change.user), []).append(change)
    return [each[-1] for each in by_user.values() if each[0].is_present == each[-1].is_present]
