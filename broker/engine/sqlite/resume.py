"""Decides at start whether the epochs of a SQLite file are still valid, by one number for its content. Blocking; no trio.

The total of a file changes with every event stored, every row of a room deleted and every entry of the outbox. So a file whose total is not the
one noted last is an older state, or no state at all, as when a file was put beside another one's write-ahead log.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from zlib import crc32

import attrs

from broker.engine.sqlite.witness import Witness, make_witness, open_witness, remove_witness
from broker.errors import ConfigurationError

MODULUS = 1 << 64


def room_weight(room: int, epoch: str) -> int:
    """Return how much each event of a room adds to the file's total, modulo `MODULUS`."""
    return (crc32(epoch.encode(), room & 0xFFFFFFFF) << 16) | 1


def bucket_weight(bucket: int) -> int:
    """Return how much each generation of a bucket adds to the file's total."""
    return crc32(b"generation", bucket) << 24


def outbox_weight() -> int:
    """Return how much each entry that was ever written to the outbox adds to the file's total."""
    return crc32(b"outbox") << 20


def read_total(connection: sqlite3.Connection) -> int:
    """Return the total of a file; takes about a second for a million rooms."""
    rooms = connection.execute("SELECT id, epoch, offset FROM rooms WHERE offset > 0")
    buckets = connection.execute("SELECT bucket, generation FROM forgotten")
    total: int = sum(room_weight(room, epoch) * offset for room, epoch, offset in rooms)
    total += sum(bucket_weight(bucket) * generation for bucket, generation in buckets)
    numbers = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")
    total += sum(outbox_weight() * latest for [latest] in numbers)
    return total % MODULUS


_BROKEN_ROOMS = """
    SELECT rooms.id FROM rooms LEFT JOIN (
        SELECT room, count(*) AS held, min(offset) AS first, max(offset) AS last, sum(length(content)) AS size
        FROM events GROUP BY room
    ) ON room = rooms.id
    WHERE ifnull(held, 0) != offset - first_held + 1 OR ifnull(size, 0) != bytes
        OR ifnull(first, first_held) != first_held OR ifnull(last, offset) != offset
"""
_STRAY_ROOMS = "SELECT DISTINCT room FROM events WHERE room NOT IN (SELECT id FROM rooms)"


@attrs.frozen
class Resumed:
    """A file that is ready to be used."""

    witness: Witness
    total: int
    reset_reason: str | None
    """Why its rooms began new epochs; None if they did not, or there were none."""
    no_witness_reason: str | None = None
    """Why the next start will have no witness; None if it will have one."""


def resume(
    connection: sqlite3.Connection, path: Path, directory: Path, boot: str, *, had_log: bool
) -> Resumed:
    """Check that a file is as the last server on it left it; if that is not certain, begin new epochs.

    `directory` holds the witnesses. A file that had a write-ahead log is read completely, as the log may be of
    another time. The caller closes the witness.

    :raises ConfigurationError: if new epochs cannot be stored.
    """
    try:
        [(token,)] = connection.execute("SELECT witness FROM file")
        file = path.stat()
        found = open_witness(directory, token)
        total = read_total(connection)
        reset_reason = "nothing tells what was stored last"
        if found is not None:
            descriptor, record = found
            mismatch = record.find_mismatch(boot, file, total)
            if mismatch is None and (not had_log or _is_whole(connection)):
                witness = Witness(descriptor)
                witness.note(total, total)
                return Resumed(witness, total, None)
            reset_reason = mismatch or "parts of the file do not belong together"
            os.close(descriptor)
            if mismatch != "the file is a copy":
                remove_witness(directory, token)
        return _begin_epochs(connection, directory, boot, file, reset_reason)
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(f"server.engine: {path} cannot be used: {error}") from None


def _begin_epochs(
    connection: sqlite3.Connection, directory: Path, boot: str, file: os.stat_result, reset_reason: str
) -> Resumed:
    descriptor, token, no_witness_reason = None, "", None
    try:
        descriptor, token = make_witness(directory, boot, file)
    except OSError as error:
        no_witness_reason = f"{directory}: {error.strerror}"
    witness = Witness(descriptor)
    try:
        with closing(connection.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            _repair(cursor)
            cursor.execute("UPDATE rooms SET epoch = lower(hex(randomblob(8)))")
            has_rooms = cursor.rowcount > 0
            cursor.execute("UPDATE file SET secret = randomblob(16), witness = ?", (token,))
            cursor.execute("COMMIT")
        total = read_total(connection)
        witness.note(total, total)
    except BaseException:
        witness.close()
        remove_witness(directory, token)
        raise
    return Resumed(witness, total, reset_reason if has_rooms else None, no_witness_reason)


def _is_whole(connection: sqlite3.Connection) -> bool:
    """Return whether indexes match tables, and histories match their rooms' rows. Reads the whole file."""
    [(first_flaw,)] = connection.execute("PRAGMA integrity_check(1)").fetchall()
    flaws = (connection.execute(query).fetchone() for query in (_BROKEN_ROOMS, _STRAY_ROOMS))
    return first_flaw == "ok" and all(flaw is None for flaw in flaws)


def _repair(cursor: sqlite3.Cursor) -> None:
    """Delete histories with gaps, events without a room, and keys of events that do not exist.

    :raises sqlite3.Error: if the indexes cannot be rebuilt.
    """
    cursor.execute("REINDEX")
    for [room] in cursor.execute(_BROKEN_ROOMS).fetchall():
        cursor.execute("DELETE FROM events WHERE room = ?", (room,))
        cursor.execute("UPDATE rooms SET first_held = offset + 1, bytes = 0 WHERE id = ?", (room,))
    for [room] in cursor.execute(_STRAY_ROOMS).fetchall():
        cursor.execute("DELETE FROM events WHERE room = ?", (room,))
    cursor.execute(
        "DELETE FROM keys WHERE NOT EXISTS"
        " (SELECT 1 FROM rooms WHERE id = keys.room AND rooms.offset >= ifnull(keys.offset, 0))"
    )
