"""Rooms, events and keys as rows of the SQLite file: every statement that reads or writes them. Blocking; no trio.

One room is one row in `rooms`, with its epoch and how far it got; its events are rows in `events`, under the
room's number and their offset. A room that nothing was ever said in has no row: its epoch is computed from its name
and the file's secret, so that telling it needs no space and it stays the same.
"""

import os
import sqlite3
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import attrs

from broker.engine.base import Receipt, Retention, Run
from broker.model import Draft, Event, Position

MORE_FORGOTTEN = 1000
"""So many more than it adds an append deletes of what has run out, at most."""


@attrs.frozen
class Append:
    """Drafts for one room."""

    room: str
    drafts: Sequence[Draft]
    retention: Retention


@attrs.define
class _RoomRow:
    id: int
    epoch: str
    offset: int
    first_held: int
    bytes: int
    age_ms: int


def first_epoch(secret: bytes, room: str) -> str:
    """Return the epoch with which a room begins in the file that has this secret."""
    return blake2b(room.encode(), key=secret, digest_size=8).hexdigest()


class Writer:
    """Appends, many rooms in one transaction. One thread at a time."""

    def __init__(
        self, connection: sqlite3.Connection, path: Path, *, secret: bytes, idempotency_seconds: float
    ) -> None:
        self._connection = connection
        self._path = path
        self._file = path.stat()
        self._secret = secret
        self._idempotency_ms = int(idempotency_seconds * 1000)

    def append(self, appends: Sequence[Append], now_ms: int) -> list[list[Receipt]]:
        """Store all or nothing; what is returned, receipts for each draft, is as safe as `synchronous` makes it.

        :raises sqlite3.Error: if nothing was stored.
        """
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        try:
            receipts = [self._append(append, now_ms) for append in appends]
            self._forget(now_ms, limit=MORE_FORGOTTEN + 2 * sum(map(len, receipts)))
            self._check_file()
            run("COMMIT")
        except BaseException:
            # A full disk may have rolled back already.
            if self._connection.in_transaction:
                run("ROLLBACK")
            raise
        return receipts

    def _check_file(self) -> None:
        """SQLite goes on writing to a file that has no name any more, and all is gone with the process."""
        try:
            is_same = os.path.samestat(self._path.stat(), self._file)
        except OSError:
            is_same = False
        if not is_same:
            raise sqlite3.OperationalError("the file was removed or replaced")

    def _append(self, append: Append, now_ms: int) -> list[Receipt]:
        row = self._room(append.room)
        known = row.offset
        receipts = [self._place(row, draft, now_ms) for draft in append.drafts]
        self._connection.executemany(
            "INSERT INTO events VALUES (?, ?, ?, ?)",
            [
                (row.id, event.offset, event.time_ms, event.content)
                for event in (receipt.event for receipt in receipts)
                if event is not None and event.offset is not None
            ],
        )
        self._trim(row, append.retention, now_ms, known)
        age_ms = int(append.retention.age_seconds * 1000)
        self._connection.execute(
            "UPDATE rooms SET offset = ?, first_held = ?, bytes = ?, age_ms = ?, expires_ms = ? WHERE id = ?",
            (row.offset, row.first_held, row.bytes, age_ms, now_ms + age_ms, row.id),
        )
        return receipts

    def _room(self, name: str) -> _RoomRow:
        found = self._connection.execute(
            "SELECT id, epoch, offset, first_held, bytes, age_ms FROM rooms WHERE name = ?", (name,)
        ).fetchone()
        if found is not None:
            return _RoomRow(*found)
        epoch = first_epoch(self._secret, name)
        cursor = self._connection.execute(
            "INSERT INTO rooms (name, epoch, offset, first_held, bytes, age_ms, expires_ms)"
            " VALUES (?, ?, 0, 1, 0, 0, 0)",
            (name, epoch),
        )
        assert cursor.lastrowid is not None
        return _RoomRow(cursor.lastrowid, epoch, 0, 1, 0, 0)

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

    def _trim(self, row: _RoomRow, retention: Retention, now_ms: int, known: int) -> None:
        """Delete from the front what is beyond the retention.

        What came up to the offset `known` had the age set before: a reader was perhaps told that it is gone.
        """
        oldest_known_ms = now_ms - row.age_ms
        oldest_ms = now_ms - int(retention.age_seconds * 1000)
        first = row.first_held
        oldest = self._connection.execute(
            "SELECT offset, time_ms, length(content) FROM events WHERE room = ? ORDER BY offset", (row.id,)
        )
        for offset, time_ms, size in oldest:
            held = row.offset - offset + 1
            is_young = time_ms > oldest_ms and (offset > known or time_ms > oldest_known_ms)
            if held <= retention.messages and row.bytes <= retention.bytes and is_young:
                break
            row.bytes -= size
            first = offset + 1
        oldest.close()
        if first != row.first_held:
            self._connection.execute("DELETE FROM events WHERE room = ? AND offset < ?", (row.id, first))
            row.first_held = first

    def _forget(self, now_ms: int, limit: int) -> None:
        """Delete what has run out: old keys, and the events of rooms in which nothing was said for long.

        At most `limit` of either: after a long silence much has run out, and nobody is to wait for all of it.
        """
        run = self._connection.execute
        run(
            "DELETE FROM keys WHERE (room, scope, key) IN"
            " (SELECT room, scope, key FROM keys WHERE expires_ms <= ? LIMIT ?)",
            (now_ms, limit),
        )
        expired = run(
            "SELECT id FROM rooms WHERE bytes > 0 AND expires_ms <= ? LIMIT ?", (now_ms, limit)
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


@attrs.frozen
class Reader:
    """Reads what is committed. One thread at a time."""

    connection: sqlite3.Connection
    secret: bytes

    def position(self, room: str) -> Position:
        """Return where a room stands.

        :raises sqlite3.Error: if it cannot be read.
        """
        found = self.connection.execute("SELECT epoch, offset FROM rooms WHERE name = ?", (room,)).fetchone()
        return Position(*found) if found is not None else Position(first_epoch(self.secret, room), 0)

    def run(self, room: str, *, after: int, limit: int | None, reverse: bool, now_ms: int) -> Run:
        """Return a run of a room's events as `Engine.read` does.

        :raises sqlite3.Error: if it cannot be read.
        """
        run = self.connection.execute
        run("BEGIN")
        try:
            found = run(
                "SELECT id, epoch, offset, first_held, age_ms FROM rooms WHERE name = ?", (room,)
            ).fetchone()
            if found is None:
                return Run(Position(first_epoch(self.secret, room), 0), 1, ())
            number, epoch, offset, first_held, age_ms = found
            first_held = _first_young(self.connection, number, first_held, now_ms - age_ms)
            query = _NEWEST_FIRST if reverse else _OLDEST_FIRST
            # Within what the room can hold: SQLite's integers end at 2**63 - 1, a client's offset may be just that.
            start = min(max(after + 1, first_held), offset + 1)
            most = offset if limit is None else min(limit, offset)
            rows = run(query, (number, start, most)).fetchall()
        finally:
            if self.connection.in_transaction:
                run("ROLLBACK")
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
