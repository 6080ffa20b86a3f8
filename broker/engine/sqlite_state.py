"""What a SQLite file holds, as one number; and whether a server may go on with it as it was left. Blocking; no trio.

The total of a file changes with every event that is stored and every room that goes, in any room. So a file with
another total than the last one noted is not the newest state of itself, or no state of itself at all, as when a file
was put beside the write-ahead log of another.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from zlib import crc32

import attrs

from broker.engine.sqlite_witness import Witness, make_witness, open_witness, remove_witness
from broker.errors import ConfigurationError

MODULUS = 1 << 64


def room_weight(room: int, epoch: str) -> int:
    """Return by how much the total of a file grows with each event of a room, modulo `MODULUS`."""
    return (crc32(epoch.encode(), room & 0xFFFFFFFF) << 16) | 1


def bucket_weight(bucket: int) -> int:
    """Return by how much the total of a file grows with each generation of a bucket."""
    return crc32(b"generation", bucket) << 24


def read_total(connection: sqlite3.Connection) -> int:
    """Return the total of a file; takes about a second for a million rooms."""
    rooms = connection.execute("SELECT id, epoch, offset FROM rooms WHERE offset > 0")
    buckets = connection.execute("SELECT bucket, generation FROM forgotten")
    total: int = sum(room_weight(room, epoch) * offset for room, epoch, offset in rooms)
    total += sum(bucket_weight(bucket) * generation for bucket, generation in buckets)
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
    """A file that a server goes on with."""

    witness: Witness
    total: int
    doubt: str | None
    """Why its rooms began new epochs; None if they did not, or there were none."""
    trouble: str | None = None
    """Why nothing will tell the next start how far the file got; None if a witness will."""


def resume(
    connection: sqlite3.Connection, path: Path, directory: Path, boot: str, *, had_log: bool
) -> Resumed:
    """Find out whether a file is what the last server on it left; if that is not certain, begin new epochs.

    `directory` is where witnesses are. A file that had a write-ahead log is read whole: the log may be of another
    time. The witness is to be closed.

    :raises ConfigurationError: if new epochs cannot be stored.
    """
    try:
        [(token,)] = connection.execute("SELECT witness FROM file")
        file = path.stat()
        found = open_witness(directory, token)
        total = read_total(connection)
        doubt = "nothing tells what was stored last"
        if found is not None:
            descriptor, testimony = found
            why = testimony.doubt(boot, file, total)
            if why is None and (not had_log or _is_whole(connection)):
                witness = Witness(descriptor)
                witness.note(total, total)
                return Resumed(witness, total, None)
            doubt = why or "parts of the file do not belong together"
            os.close(descriptor)
            if why != "the file is a copy":
                remove_witness(directory, token)
        return _begin_anew(connection, directory, boot, file, doubt)
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(f"server.engine: {path} cannot be used: {error}") from None


def _begin_anew(
    connection: sqlite3.Connection, directory: Path, boot: str, file: os.stat_result, doubt: str
) -> Resumed:
    descriptor, token, why_none = None, "", None
    try:
        descriptor, token = make_witness(directory, boot, file)
    except OSError as error:
        why_none = f"{directory}: {error.strerror}"
    witness = Witness(descriptor)
    try:
        with closing(connection.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            _mend(cursor)
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
    return Resumed(witness, total, doubt if has_rooms else None, why_none)


def _is_whole(connection: sqlite3.Connection) -> bool:
    """Return whether indexes fit their tables, and every history is the run that its room says. Reads the whole file."""
    [(first_flaw,)] = connection.execute("PRAGMA integrity_check(1)").fetchall()
    flaws = (connection.execute(query).fetchone() for query in (_BROKEN_ROOMS, _STRAY_ROOMS))
    return first_flaw == "ok" and all(flaw is None for flaw in flaws)


def _mend(cursor: sqlite3.Cursor) -> None:
    """Give up the histories that have gaps, events of no room, and ids of events that are not there.

    :raises sqlite3.Error: if indexes do not fit even when they are made again.
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
