"""The outbox and the book of who is present as rows of the SQLite file. Blocking; no trio."""

import sqlite3
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, TypeAlias

import attrs
import msgspec

from broker.engine.age_clock import Moment
from broker.engine.attendance import Book, Held, QueuesAtPlaces
from broker.engine.outbox import (
    AsideEntry,
    Entry,
    Kind,
    Queue,
    QueueStatistics,
    message_queues,
    write_message_entry,
)
from broker.model import Event, Position

PARTITION = "sqlite"


@attrs.frozen
class Presence:
    """A user came to a place or left it; `fields` are those of the entry of one who came."""

    place: str
    user: str
    is_present: bool
    fields: msgspec.Raw


@attrs.frozen
class Attend:
    """Changes of who is present, in their order."""

    changes: Sequence[Presence]


@attrs.frozen
class LeaveAll:
    """Nobody is present: the process that had them is gone."""


@attrs.frozen
class WriteDue:
    """The entries of a queue that were held back and are due are to be written."""

    queue: str


@attrs.frozen
class Remove:
    """Entries were delivered."""

    queue: str
    numbers: Sequence[int]


@attrs.frozen
class PutAside:
    """Entries are given up."""

    queue: str
    numbers: Sequence[int]
    reason: str


@attrs.define
class Repeat:
    """Entries put aside, all for None, return to their queue; `count` is set to how many they were."""

    queue: str
    numbers: Sequence[int] | None
    count: int = 0


OutboxChange: TypeAlias = Attend | LeaveAll | WriteDue | Remove | PutAside | Repeat


class OutboxWriter:
    """Writes entries within transactions; also the BookStore of the file. One thread at a time."""

    def __init__(self, connection: sqlite3.Connection, queues: Sequence[Queue], *, secret: bytes) -> None:
        self._connection = connection
        self._configured = {queue.name: queue for queue in queues}
        self._epoch = blake2b(b"outbox", key=secret, digest_size=8).hexdigest()
        self._book = Book(QueuesAtPlaces(queues), self)
        self._queued_ms = 0
        self.message_queues = message_queues(queues)
        """Returns the queues that get the messages of a room; None if there are none for any."""
        self.written = 0
        """Entries written since the file was opened, also in transactions that were rolled back."""

    def write_messages(
        self, queues: Sequence[Queue], room: str, epoch: str, events: Sequence[Event], now: Moment
    ) -> None:
        """Write the entries of stored events of a room."""
        self._queued_ms = now.time_ms
        for event in events:
            if event.offset is None:
                continue
            write_message_entry(self, queues, room, Position(epoch, event.offset), event)

    def execute(self, change: OutboxChange, now: Moment) -> None:
        """Make a change.

        :raises sqlite3.Error: if it cannot be made.
        """
        self._queued_ms = now.time_ms
        match change:
            case Attend(changes):
                for each in changes:
                    if each.is_present:
                        self._book.came(each.place, each.user, each.fields, now)
                    else:
                        self._book.left(each.place, each.user, now)
            case LeaveAll():
                self._leave_all(now)
            case WriteDue(queue):
                self._book.write_due(self._configured[queue], now)
            case Remove(queue, numbers):
                self._connection.executemany(
                    "DELETE FROM outbox WHERE number = ? AND queue = ? AND aside_ms IS NULL",
                    [(number, queue) for number in numbers],
                )
            case PutAside(queue, numbers, reason):
                self._connection.executemany(
                    "UPDATE outbox SET aside_ms = ?, reason = ? WHERE number = ? AND queue = ? AND aside_ms IS NULL",
                    [(now.time_ms, reason, number, queue) for number in numbers],
                )
            case Repeat():
                self._repeat(change, now)

    def _repeat(self, repeat: Repeat, now: Moment) -> None:
        statement = (
            "UPDATE outbox SET aside_ms = NULL, reason = NULL, queued_ms = ?"
            " WHERE queue = ? AND aside_ms IS NOT NULL"
        )
        run = self._connection.execute
        if repeat.numbers is None:
            repeat.count = run(statement, (now.time_ms, repeat.queue)).rowcount
            return
        repeat.count = sum(
            run(f"{statement} AND number = ?", (now.time_ms, repeat.queue, number)).rowcount
            for number in repeat.numbers
        )

    def _leave_all(self, now: Moment) -> None:
        run = self._connection.execute
        for place, user in run("SELECT place, user FROM present").fetchall():
            self._book.left(place, user, now)
        # What a queue of a former configuration held back is of no use to it later.
        for [name] in run("SELECT DISTINCT queue FROM held").fetchall():
            if name not in self._configured:
                run("DELETE FROM held WHERE queue = ?", (name,))

    def add(self, place: str, user: str) -> bool:
        """See BookStore."""
        return bool(
            self._connection.execute("INSERT OR IGNORE INTO present VALUES (?, ?)", (place, user)).rowcount
        )

    def discard(self, place: str, user: str) -> bool:
        """See BookStore."""
        cursor = self._connection.execute("DELETE FROM present WHERE place = ? AND user = ?", (place, user))
        return bool(cursor.rowcount)

    def is_vacant(self, place: str) -> bool:
        """See BookStore."""
        return (
            self._connection.execute("SELECT 1 FROM present WHERE place = ? LIMIT 1", (place,)).fetchone()
            is None
        )

    def hold(self, queue: str, held: Held, due_ms: int) -> None:
        """See BookStore."""
        self._connection.execute(
            "INSERT OR REPLACE INTO held (queue, kind, place, user, time_ms, due_ms) VALUES (?, ?, ?, ?, ?, ?)",
            (queue, held.kind, held.place, held.user, held.time_ms, due_ms),
        )

    def take_held(self, queue: str, kind: Kind, place: str, user: str) -> bool:
        """See BookStore."""
        cursor = self._connection.execute(
            "DELETE FROM held WHERE queue = ? AND kind = ? AND place = ? AND user = ?",
            (queue, kind, place, user),
        )
        return bool(cursor.rowcount)

    def take_due(self, queue: str, age_ms: int) -> Sequence[Held]:
        """See BookStore."""
        run = self._connection.execute
        due = run(
            "SELECT kind, place, user, time_ms FROM held WHERE queue = ? AND due_ms <= ? ORDER BY due_ms, id",
            (queue, age_ms),
        ).fetchall()
        if due:
            run("DELETE FROM held WHERE queue = ? AND due_ms <= ?", (queue, age_ms))
        return [Held(Kind(kind), *rest) for kind, *rest in due]

    def write(
        self,
        queue: str,
        kind: Kind,
        *,
        time_ms: int,
        room: str | None,
        user: str | None,
        fields: msgspec.Raw,
    ) -> None:
        """See BookStore."""
        self._connection.execute(
            "INSERT INTO outbox (epoch, queue, kind, time_ms, queued_ms, room, user, fields)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (self._epoch, queue, kind, time_ms, self._queued_ms, room, user, bytes(fields)),
        )
        self.written += 1


def has_absent(connection: sqlite3.Connection) -> bool:
    """Return whether a file that was just opened has users who are present, or entries held back.

    :raises sqlite3.Error: if it cannot be read.
    """
    [found] = connection.execute("SELECT EXISTS (SELECT 1 FROM present) OR EXISTS (SELECT 1 FROM held)")
    return bool(found[0])


def has_due(connection: sqlite3.Connection, queue: str, age_ms: int) -> bool:
    """Return whether entries that were held back are due.

    :raises sqlite3.Error: if it cannot be read.
    """
    due = connection.execute("SELECT 1 FROM held WHERE queue = ? AND due_ms <= ? LIMIT 1", (queue, age_ms))
    return due.fetchone() is not None


_WAITING = """
    SELECT epoch, number, kind, time_ms, queued_ms, room, user, fields FROM outbox
    WHERE queue = ? AND number > ? AND aside_ms IS NULL ORDER BY number LIMIT ?
"""
_ASIDE = """
    SELECT epoch, number, kind, time_ms, queued_ms, room, user, fields, aside_ms, reason FROM outbox
    WHERE queue = ? AND number > ? AND aside_ms IS NOT NULL ORDER BY number LIMIT ?
"""


def _entry(row: tuple[Any, ...]) -> Entry:
    epoch, number, kind, time_ms, queued_ms, room, user, fields = row
    return Entry(epoch, number, Kind(kind), time_ms, queued_ms, room, user, msgspec.Raw(fields))


def read_waiting(connection: sqlite3.Connection, queue: str, after: int, limit: int) -> list[Entry]:
    """Return the entries of a queue with numbers above `after`.

    :raises sqlite3.Error: if they cannot be read.
    """
    return [_entry(row) for row in connection.execute(_WAITING, (queue, after, limit))]


def read_aside(connection: sqlite3.Connection, queue: str, after: int, limit: int) -> list[AsideEntry]:
    """Return the entries put aside with numbers above `after`.

    :raises sqlite3.Error: if they cannot be read.
    """
    rows = connection.execute(_ASIDE, (queue, after, limit))
    return [AsideEntry(_entry(row[:-2]), row[-2], row[-1]) for row in rows]


def count_entries(connection: sqlite3.Connection, queues: Sequence[str]) -> list[QueueStatistics]:
    """Return the statistics of queues.

    :raises sqlite3.Error: if they cannot be read.
    """
    found = []
    for queue in queues:
        [(waiting,)] = connection.execute(
            "SELECT count(*) FROM outbox WHERE queue = ? AND aside_ms IS NULL", (queue,)
        )
        first = read_waiting(connection, queue, 0, 1)
        [(aside,)] = connection.execute(
            "SELECT count(*) FROM outbox WHERE queue = ? AND aside_ms IS NOT NULL", (queue,)
        )
        found.append(QueueStatistics(PARTITION, queue, waiting, first[0].queued_ms if first else None, aside))
    return found
