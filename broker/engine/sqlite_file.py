"""The SQLite file of the durable engine: its schema, and every statement that touches it. Blocking; no trio.

One room is one row in `rooms`, with its epoch and how far it got; its events are rows in `events`, under the
room's number and their offset. In WAL mode readers go on while the writer commits.
"""

import fcntl
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Literal

import attrs

from broker.engine.base import Receipt, Retention, Run
from broker.errors import ConfigurationError
from broker.model import Draft, Event, Position

APPLICATION_ID = 0x67726E72  # "grnr": tells our files from other programs'

Synchronous = Literal["full", "normal", "off"]

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE rooms (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, epoch TEXT NOT NULL,
        offset INTEGER NOT NULL, first_held INTEGER NOT NULL, bytes INTEGER NOT NULL,
        age_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL
    );
    CREATE INDEX rooms_by_expiry ON rooms (expires_ms) WHERE bytes > 0;
    CREATE TABLE events (
        room INTEGER NOT NULL, offset INTEGER NOT NULL, time_ms INTEGER NOT NULL, content BLOB NOT NULL,
        PRIMARY KEY (room, offset)
    ) WITHOUT ROWID;
    CREATE TABLE keys (
        room INTEGER NOT NULL, scope TEXT NOT NULL, key TEXT NOT NULL, offset INTEGER,
        expires_ms INTEGER NOT NULL, PRIMARY KEY (room, scope, key)
    ) WITHOUT ROWID;
    CREATE INDEX keys_by_expiry ON keys (expires_ms);
    """,
)
"""What brings a file of version n to version n + 1; the version is the file's `user_version`."""


@attrs.frozen
class Append:
    """Drafts for one room. Without a retention, it only makes the room's epoch."""

    room: str
    drafts: Sequence[Draft] = ()
    retention: Retention | None = None


@attrs.frozen
class Appended:
    """Where the room stands now, and a receipt for each draft."""

    position: Position
    receipts: Sequence[Receipt]


@attrs.define
class _RoomRow:
    id: int
    epoch: str
    offset: int
    first_held: int
    bytes: int


def lock_file(path: Path) -> IO[bytes]:
    """Take the file for this process alone; closing what is returned gives it back, as does the process's end.

    The lock is on a file beside it: closing any descriptor of the database file itself would drop SQLite's own
    locks (fcntl(2), POSIX).

    :raises ConfigurationError: if another process has it, or the directory cannot be written.
    """
    try:
        lock = path.with_name(path.name + "-lock").open("ab")
    except OSError as error:
        raise ConfigurationError(f"server.engine: cannot open {path}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise ConfigurationError(
            f"server.engine: {path} is in use by another server; several servers need redis://"
        ) from None
    return lock


def open_writer(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    """Open the file for writing, making or migrating it.

    :raises ConfigurationError: if it is not ours, of a later version, corrupt, or cannot be opened.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, path, synchronous)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise ConfigurationError(f"server.engine: {path} cannot be used: {error}") from None
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, synchronous: Synchronous) -> None:
    def pragma(name: str) -> object:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]

    is_new = pragma("page_count") == 0
    if not is_new and pragma("application_id") != APPLICATION_ID:
        raise ConfigurationError(f"server.engine: {path} is another program's database")
    version = pragma("user_version")
    if not isinstance(version, int) or version > len(MIGRATIONS):
        raise ConfigurationError(
            f"server.engine: {path} was written by a later greenroom (version {version})"
        )
    if not is_new and pragma("quick_check(1)") != "ok":
        raise ConfigurationError(f"server.engine: {path} is corrupt; restore it from a copy")
    pragma("journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    if version == len(MIGRATIONS):
        return
    with closing(connection.cursor()) as cursor:
        cursor.execute("BEGIN IMMEDIATE")
        for step in MIGRATIONS[version:]:
            for statement in step.split(";"):
                cursor.execute(statement)
        cursor.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        cursor.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        cursor.execute("COMMIT")


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the file, which a writer has prepared, for reading."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = 1")
    return connection


class Writer:
    """Appends, many rooms in one transaction. One thread at a time."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        idempotency_seconds: float,
        make_epoch: Callable[[], str],
    ) -> None:
        self._connection = connection
        self._idempotency_ms = int(idempotency_seconds * 1000)
        self._make_epoch = make_epoch

    def append(self, appends: Sequence[Append], now_ms: int) -> list[Appended]:
        """Store all or nothing; what is returned is as safe as `synchronous` makes it.

        :raises sqlite3.Error: if nothing was stored.
        """
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        try:
            appended = [self._append(append, now_ms) for append in appends]
            self._forget(now_ms)
            run("COMMIT")
        except BaseException:
            # A full disk may have rolled back already.
            if self._connection.in_transaction:
                run("ROLLBACK")
            raise
        return appended

    def _append(self, append: Append, now_ms: int) -> Appended:
        row = self._room(append.room)
        receipts = []
        rows = []
        for draft in append.drafts:
            receipt = self._place(row, draft, now_ms)
            receipts.append(receipt)
            if receipt.event is not None and receipt.position is not None:
                rows.append((row.id, row.offset, now_ms, draft.content))
        if append.retention is not None:
            self._connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
            self._trim(row, append.retention, now_ms)
            age_ms = int(append.retention.age_seconds * 1000)
            self._connection.execute(
                "UPDATE rooms SET offset = ?, first_held = ?, bytes = ?, age_ms = ?, expires_ms = ? WHERE id = ?",
                (row.offset, row.first_held, row.bytes, age_ms, now_ms + age_ms, row.id),
            )
        return Appended(Position(row.epoch, row.offset), receipts)

    def _room(self, name: str) -> _RoomRow:
        found = self._connection.execute(
            "SELECT id, epoch, offset, first_held, bytes FROM rooms WHERE name = ?", (name,)
        ).fetchone()
        if found is not None:
            return _RoomRow(*found)
        epoch = self._make_epoch()
        cursor = self._connection.execute(
            "INSERT INTO rooms (name, epoch, offset, first_held, bytes, age_ms, expires_ms)"
            " VALUES (?, ?, 0, 1, 0, 0, 0)",
            (name, epoch),
        )
        assert cursor.lastrowid is not None
        return _RoomRow(cursor.lastrowid, epoch, 0, 1, 0)

    def _place(self, row: _RoomRow, draft: Draft, now_ms: int) -> Receipt:
        key = draft.key
        if key is not None:
            known = self._connection.execute(
                "SELECT offset FROM keys WHERE room = ? AND scope = ? AND key = ? AND expires_ms > ?",
                (row.id, key.scope, key.key, now_ms),
            ).fetchone()
            if known is not None:
                return Receipt(None if known[0] is None else Position(row.epoch, known[0]), None)
        offset = None
        if not draft.ephemeral:
            row.offset += 1
            row.bytes += len(draft.content)
            offset = row.offset
        if key is not None:
            self._connection.execute(
                "INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?)",
                (row.id, key.scope, key.key, offset, now_ms + self._idempotency_ms),
            )
        position = None if offset is None else Position(row.epoch, offset)
        return Receipt(position, Event(draft.content, now_ms, offset))

    def _trim(self, row: _RoomRow, retention: Retention, now_ms: int) -> None:
        """Delete from the front what is beyond the retention."""
        oldest_ms = now_ms - int(retention.age_seconds * 1000)
        first = row.first_held
        oldest = self._connection.execute(
            "SELECT offset, time_ms, length(content) FROM events WHERE room = ? ORDER BY offset", (row.id,)
        )
        for offset, time_ms, size in oldest:
            held = row.offset - offset + 1
            if held <= retention.messages and row.bytes <= retention.bytes and time_ms > oldest_ms:
                break
            row.bytes -= size
            first = offset + 1
        oldest.close()
        if first != row.first_held:
            self._connection.execute("DELETE FROM events WHERE room = ? AND offset < ?", (row.id, first))
            row.first_held = first

    def _forget(self, now_ms: int) -> None:
        """Delete what has run out: old keys, and the events of rooms in which nothing was said for long."""
        run = self._connection.execute
        run("DELETE FROM keys WHERE expires_ms <= ?", (now_ms,))
        expired = run(
            "SELECT id FROM rooms WHERE bytes > 0 AND expires_ms <= ? LIMIT 10", (now_ms,)
        ).fetchall()
        for (room,) in expired:
            run("DELETE FROM events WHERE room = ?", (room,))
            run("UPDATE rooms SET first_held = offset + 1, bytes = 0 WHERE id = ?", (room,))


_OLDEST_FIRST = """
    SELECT offset, time_ms, content FROM events WHERE room = ? AND offset >= ? ORDER BY offset LIMIT ?
"""
_NEWEST_FIRST = """
    SELECT offset, time_ms, content FROM events WHERE room = ? AND offset >= ? ORDER BY offset DESC LIMIT ?
"""


def read_run(
    connection: sqlite3.Connection, room: str, *, after: int, limit: int | None, reverse: bool, now_ms: int
) -> Run | None:
    """Return a run of a room's events as `Engine.read` does, None for a room that is not in the file."""
    run = connection.execute
    run("BEGIN")
    try:
        found = run(
            "SELECT id, epoch, offset, first_held, age_ms FROM rooms WHERE name = ?", (room,)
        ).fetchone()
        if found is None:
            return None
        number, epoch, offset, first_held, age_ms = found
        first_held = _first_young(connection, number, first_held, now_ms - age_ms)
        query = _NEWEST_FIRST if reverse else _OLDEST_FIRST
        # Within what the room can hold: SQLite's integers end at 2**63 - 1, a client's offset may be just that.
        start = min(max(after + 1, first_held), offset + 1)
        most = offset if limit is None else min(limit, offset)
        rows = run(query, (number, start, most)).fetchall()
    finally:
        run("COMMIT")
    events = tuple(Event(content, time_ms, place) for place, time_ms, content in rows)
    return Run(Position(epoch, offset), min(first_held, offset + 1), events)


def _first_young(connection: sqlite3.Connection, room: int, first_held: int, oldest_ms: int) -> int:
    """Return the oldest offset held that is not too old; what is too old is deleted at the next append."""
    rows = connection.execute(
        "SELECT offset, time_ms FROM events WHERE room = ? AND offset >= ? ORDER BY offset",
        (room, first_held),
    )
    for offset, time_ms in rows:
        if time_ms > oldest_ms:
            return int(offset)
        first_held = offset + 1
    return first_held
