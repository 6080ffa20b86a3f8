"""The SQLite file of the durable engine: its application id, schema, migrations, opening and closing. Blocking; no trio.

In WAL mode readers continue while the writer commits.
"""

import secrets
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal

from broker.engine.age_clock import ClockNote
from broker.errors import ConfigurationError

APPLICATION_ID = 0x67726E72  # "grnr"; other programs' files have another

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
    """
    CREATE TABLE file (secret BLOB NOT NULL, boot TEXT NOT NULL);
    INSERT INTO file VALUES (randomblob(16), '');
    """,
    """
    DROP INDEX rooms_by_expiry;
    CREATE INDEX rooms_by_expiry ON rooms (expires_ms);
    UPDATE rooms SET expires_ms = max(expires_ms, coalesce((SELECT max(expires_ms) FROM keys), 0)) WHERE bytes = 0;
    CREATE TABLE forgotten (bucket INTEGER PRIMARY KEY, generation INTEGER NOT NULL);
    """,
    """
    CREATE TABLE clock (
        boot TEXT NOT NULL, ahead_of_boot_ms INTEGER NOT NULL, skew_ms INTEGER NOT NULL, latest_ms INTEGER NOT NULL
    );
    ALTER TABLE events ADD COLUMN skew_ms INTEGER NOT NULL DEFAULT 0;
    """,
    """
    ALTER TABLE file RENAME COLUMN boot TO witness;
    """,
    """
    ALTER TABLE events ADD COLUMN header BLOB;
    """,
    """
    CREATE TABLE revocations (key TEXT PRIMARY KEY, expires_at REAL NOT NULL, issued_before REAL) WITHOUT ROWID;
    CREATE INDEX revocations_by_expiry ON revocations (expires_at);
    """,
    """
    CREATE TABLE outbox (
        number INTEGER PRIMARY KEY AUTOINCREMENT, epoch TEXT NOT NULL, queue TEXT NOT NULL, kind TEXT NOT NULL,
        time_ms INTEGER NOT NULL, queued_ms INTEGER NOT NULL, room TEXT, user TEXT, fields BLOB NOT NULL,
        aside_ms INTEGER, reason TEXT
    );
    CREATE INDEX outbox_waiting ON outbox (queue, number) WHERE aside_ms IS NULL;
    CREATE INDEX outbox_aside ON outbox (queue, number) WHERE aside_ms IS NOT NULL;
    CREATE TABLE held (
        id INTEGER PRIMARY KEY, queue TEXT NOT NULL, kind TEXT NOT NULL, place TEXT NOT NULL, user TEXT NOT NULL,
        time_ms INTEGER NOT NULL, due_ms INTEGER NOT NULL, UNIQUE (queue, kind, place, user)
    );
    CREATE INDEX held_by_due ON held (queue, due_ms);
    CREATE TABLE present (place TEXT NOT NULL, user TEXT NOT NULL, PRIMARY KEY (place, user)) WITHOUT ROWID;
    """,
    """
    CREATE TABLE states (
        room TEXT NOT NULL PRIMARY KEY, class TEXT NOT NULL, version INTEGER NOT NULL, content BLOB NOT NULL
    );
    CREATE TABLE timers (
        room TEXT NOT NULL, name TEXT NOT NULL, due_ms INTEGER NOT NULL, PRIMARY KEY (room, name)
    ) WITHOUT ROWID;
    CREATE INDEX timers_by_due ON timers (due_ms, room, name);
    CREATE TABLE answers (
        room TEXT NOT NULL, scope TEXT NOT NULL, key TEXT NOT NULL, answer BLOB NOT NULL,
        epoch TEXT, offset INTEGER, expires_ms INTEGER NOT NULL, PRIMARY KEY (room, scope, key)
    );
    CREATE INDEX answers_by_expiry ON answers (expires_ms);
    """,
)
"""Statements that bring a file of version n to version n + 1; the version is the file's `user_version`.

`rooms.expires_ms` is when all of the room's events have expired or, if it holds none, when its row may be deleted.
`forgotten.generation` counts the rows of rooms deleted in a bucket.

`file.secret` makes the first epochs of rooms. `file.witness` names the file's witness
(`broker.engine.sqlite.witness`).

`events.header` is a MessagePack array, see EventHeader; NULL for events stored before there was one.

`revocations` has Unix seconds of the wall clock, as tokens have.

`outbox` has the entries of all queues, under numbers that are never used again. `aside_ms` and `reason` are NULL for
those that wait; `time_ms`, `queued_ms` and `aside_ms` are the wall clock's. `held` has the entries that are held back,
and `present` the users at each place (`broker.engine.attendance`).

`states`, `timers` and `answers` have what rooms that applications write store besides their events
(`broker.engine.room_store`), under the room's name: their rows outlive the room's row in `rooms`. An answer may have
the position of an event, and may be deleted from `expires_ms` on.

`clock` has at most one row: the note of the age clock (`broker.engine.age_clock`), and a time that it has shown since.
`events.time_ms` is the wall clock's time, which was `skew_ms` ahead of the age clock; every other time in the file is
the age clock's, but those of revocations and of the outbox.
"""

LOG_BYTES = 1 << 24
"""The write-ahead log is truncated to this size after a burst."""


def open_writer(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    """Open the file for writing, making or migrating it.

    :raises ConfigurationError: if it is another program's, of a later version, corrupt, or cannot be opened.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            _check(connection, path)
            _migrate(connection)
            connection.execute(f"PRAGMA synchronous = {synchronous}")
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise ConfigurationError(f"server.engine: {path} cannot be used: {error}") from None
    return connection


def _pragma(connection: sqlite3.Connection, pragma: str) -> object:
    return connection.execute(f"PRAGMA {pragma}").fetchone()[0]


def _check(connection: sqlite3.Connection, path: Path) -> None:
    is_new = _pragma(connection, "page_count") == 0
    if not is_new and _pragma(connection, "application_id") != APPLICATION_ID:
        raise ConfigurationError(f"server.engine: {path} is another program's database")
    version = _pragma(connection, "user_version")
    if not isinstance(version, int) or version > len(MIGRATIONS):
        raise ConfigurationError(
            f"server.engine: {path} was written by a later greenroom (version {version})"
        )
    if not is_new and _pragma(connection, "quick_check(1)") != "ok":
        raise ConfigurationError(f"server.engine: {path} is corrupt; restore it from a copy")
    if is_new:
        # Lets the file shrink; possible only before anything else is written.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    if _pragma(connection, "journal_mode = WAL") != "wal":
        raise ConfigurationError(f"server.engine: {path} is where SQLite cannot keep a write-ahead log")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    # On macOS a plain fsync does not reach the disk; elsewhere this has no effect.
    connection.execute("PRAGMA fullfsync = 1")
    connection.execute("PRAGMA synchronous = full")


def _migrate(connection: sqlite3.Connection) -> None:
    version = _pragma(connection, "user_version")
    assert isinstance(version, int)
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
        # Into the file itself: without its log it would have no application id.
        cursor.execute("PRAGMA wal_checkpoint").fetchall()


def close_writer(connection: sqlite3.Connection) -> None:
    """Close the file, with everything written on the disk."""
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA synchronous = full")
    connection.close()


def read_secret(connection: sqlite3.Connection) -> bytes:
    """Return the file's secret."""
    [(secret,)] = connection.execute("SELECT secret FROM file")
    return bytes(secret)


def read_clock(connection: sqlite3.Connection) -> tuple[ClockNote | None, int]:
    """Return the age clock's note, and the latest time that it is known to have shown; None and 0 in a new file."""
    found = connection.execute("SELECT boot, ahead_of_boot_ms, skew_ms, latest_ms FROM clock").fetchone()
    return (None, 0) if found is None else (ClockNote(*found[:3]), int(found[3]))


def note_clock(connection: sqlite3.Connection, note: ClockNote, age_ms: int) -> None:
    """Store, within a transaction, the age clock's note and its present time."""
    connection.execute("DELETE FROM clock")
    connection.execute(
        "INSERT INTO clock VALUES (?, ?, ?, ?)", (note.boot, note.ahead_of_boot_ms, note.skew_ms, age_ms)
    )


def read_boot() -> str:
    """Return the id of the machine's present boot; a new random one where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return secrets.token_hex(16)


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the file for reading, after `open_writer`."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = 1")
    return connection
