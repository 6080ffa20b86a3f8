"""Rooms, events and keys as rows of the SQLite file: every statement that reads or writes them. Blocking; no trio.

One room is one row in `rooms`, with its epoch and latest offset; its events are rows in `events`, under the room's
number and their offset. The epoch of a room without a row is computed from its name, the file's secret and a
generation, so that it is constant and takes no space.

A row is deleted once its room holds neither events nor keys. So that its epoch never comes back, the generation of
its bucket is incremented: each name belongs to one of 65,536 buckets, which bounds the space for forgotten rooms.
(Other rooms of the bucket that have no row begin a new epoch with it.)
"""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import TypeAlias

import attrs
import msgspec

from broker.engine.age_clock import ClockNote, Moment
from broker.engine.base import Receipt, Retention, Run, is_kept
from broker.engine.outbox import Queue
from broker.engine.sqlite.file import note_clock, read_clock
from broker.engine.sqlite.outbox_rows import OutboxChange, OutboxWriter
from broker.engine.sqlite.resume import MODULUS, Resumed, bucket_weight, outbox_weight, room_weight
from broker.engine.sqlite.revocation_rows import Revoke, store_row
from broker.engine.sqlite.room_rows import StoreTurns, forget_answers, store_rows
from broker.model import Draft, Event, EventHeader, Position
from broker.protocol.content import read_header

CLOCK_NOTED_EVERY_MS = 60_000
"""Limit for how far the age clock may go back on a machine that boots with an earlier time."""

MORE_FORGOTTEN = 1000
"""How many more expired rows than it adds an append deletes, at most."""

MOST_FREE_PAGES = 1000
"""Free pages beyond this, and beyond half of the file, are returned to the file system."""

PAGES_GIVEN_BACK = 500
"""Most pages that one append returns."""


_pack = msgspec.msgpack.encode
_headers = msgspec.msgpack.Decoder(EventHeader)


@attrs.frozen
class Append:
    """Drafts for one room."""

    room: str
    drafts: Sequence[Draft]
    retention: Retention


@attrs.define
class Clear:
    """The deletion of a room's events, in the order of the appends; `deleted` counts them."""

    room: str
    deleted: int = 0


Change: TypeAlias = Append | Clear | Revoke | StoreTurns | OutboxChange


def ephemeral_receipts(drafts: Sequence[Draft], time_ms: int) -> list[Receipt]:
    """Return the receipts of drafts of which nothing is stored."""
    return [Receipt(None, Event(draft.content, time_ms, None, draft.header)) for draft in drafts]


@attrs.define
class _RoomRow:
    id: int
    epoch: str
    offset: int
    first_held: int
    bytes: int
    age_ms: int


def bucket_of(room: str) -> int:
    """Return the bucket of a room's name."""
    return int.from_bytes(blake2b(room.encode(), digest_size=2).digest(), "big")


def first_epoch(connection: sqlite3.Connection, secret: bytes, room: str) -> str:
    """Return the epoch of a room without a row, in the file with this secret."""
    found = connection.execute(
        "SELECT generation FROM forgotten WHERE bucket = ?", (bucket_of(room),)
    ).fetchone()
    generation: int = 0 if found is None else found[0]
    return blake2b(room.encode(), key=secret, salt=generation.to_bytes(8, "big"), digest_size=8).hexdigest()


class Writer:
    """Stores appends of many rooms in one transaction. One thread at a time."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        resumed: Resumed,
        *,
        secret: bytes,
        idempotency_seconds: float,
        queues: Sequence[Queue] = (),
    ) -> None:
        self._connection = connection
        self.outbox = OutboxWriter(connection, queues, secret=secret)
        self._witness = resumed.witness
        self._total = self._next_total = resumed.total
        # Both files exist after the first read.
        log = path.with_name(path.name + "-wal")
        connection.execute("SELECT secret FROM file").fetchone()
        self._files = {each: each.stat() for each in (path, log)}
        self._secret = secret
        self.idempotency_ms = int(idempotency_seconds * 1000)
        self._clock_note, self._clock_noted_ms = read_clock(connection)

    def append(self, appends: Sequence[Change], now: Moment, clock_note: ClockNote) -> list[list[Receipt]]:
        """Store all or nothing, as durable as `synchronous` makes it; returns a list of receipts for each append.

        `clock_note` is stored as well when it has changed, and at least every CLOCK_NOTED_EVERY_MS.

        :raises sqlite3.Error: if nothing was stored.
        """
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        self._next_total = self._total
        entries_before = self.outbox.written
        try:
            receipts = [self._execute(each, now) for each in appends]
            self._next_total += outbox_weight() * (self.outbox.written - entries_before)
            added = sum(map(len, receipts))
            added += sum(len(each.turns) for each in appends if isinstance(each, StoreTurns))
            self._forget(now.age_ms, limit=MORE_FORGOTTEN + 2 * added)
            notes_clock = (
                clock_note != self._clock_note or now.age_ms - self._clock_noted_ms >= CLOCK_NOTED_EVERY_MS
            )
            if notes_clock:
                note_clock(self._connection, clock_note, now.age_ms)
            self._check_files()
            self._note_total(self._total, self._next_total)
            run("COMMIT")
        except BaseException:
            # SQLite may have rolled back already, on a full disk.
            if self._connection.in_transaction:
                run("ROLLBACK")
            raise
        if notes_clock:
            self._clock_note, self._clock_noted_ms = clock_note, now.age_ms
        self._total = self._next_total
        # The commit is done: a failure here does not undo it.
        with suppress(sqlite3.Error):
            self._note_total(self._total, self._total)
            self._give_back_pages()
        return receipts

    def _note_total(self, before: int, after: int) -> None:
        try:
            self._witness.note(before % MODULUS, after % MODULUS)
        except OSError as error:
            raise sqlite3.OperationalError(f"the witness cannot be written: {error.strerror}") from error

    def _give_back_pages(self) -> None:
        [free], [pages] = (
            self._connection.execute(f"PRAGMA {count}").fetchone()
            for count in ("freelist_count", "page_count")
        )
        if free > max(MOST_FREE_PAGES, pages // 2):
            # Each step frees one page, and `execute` would make only one, as there are no rows to fetch.
            self._connection.executescript(f"PRAGMA incremental_vacuum({PAGES_GIVEN_BACK})")

    def _check_files(self) -> None:
        """Check that both files still have their names: SQLite would go on writing to unlinked files.

        :raises sqlite3.OperationalError: if one was removed or replaced.
        """
        try:
            is_same = all(os.path.samestat(path.stat(), file) for path, file in self._files.items())
        except OSError:
            is_same = False
        if not is_same:
            raise sqlite3.OperationalError("the file, or the -wal beside it, was removed or replaced")

    def _execute(self, each: Change, now: Moment) -> list[Receipt]:
        match each:
            case Append():
                return self._append(each, now)
            case Clear():
                return self._clear(each, now)
            case Revoke():
                store_row(self._connection, each)
                return []
            case StoreTurns():
                return self._store_turns(each, now)
            case _:
                self.outbox.execute(each, now)
                return []

    def _store_turns(self, storing: StoreTurns, now: Moment) -> list[Receipt]:
        drafts = storing.drafts
        if any(is_kept(draft) for draft in drafts):
            receipts = self._append(Append(storing.room, drafts, storing.retention), now)
        else:
            receipts = ephemeral_receipts(drafts, now.time_ms)
        store_rows(self._connection, storing, receipts, now.age_ms + self.idempotency_ms)
        return receipts

    def _append(self, append: Append, now: Moment) -> list[Receipt]:
        row = self._room(append.room)
        known = row.offset
        receipts = [self._place(row, draft, now) for draft in append.drafts]
        skew_ms = now.time_ms - now.age_ms
        stored = [
            receipt.event
            for receipt in receipts
            if receipt.event is not None and receipt.event.offset is not None
        ]
        self._connection.executemany(
            "INSERT INTO events (room, offset, time_ms, content, skew_ms, header) VALUES (?, ?, ?, ?, ?, ?)",
            [
                (row.id, event.offset, event.time_ms, event.content, skew_ms, _pack(event.header))
                for event in stored
            ],
        )
        if self.outbox.message_queues is not None:
            queues = self.outbox.message_queues(append.room)
            self.outbox.write_messages(queues, append.room, row.epoch, stored, now)
        self._next_total += room_weight(row.id, row.epoch) * (row.offset - known)
        self._trim(row, append.retention, now.age_ms, known)
        age_ms = int(append.retention.age_seconds * 1000)
        self._connection.execute(
            "UPDATE rooms SET offset = ?, first_held = ?, bytes = ?, age_ms = ?, expires_ms = ? WHERE id = ?",
            (row.offset, row.first_held, row.bytes, age_ms, now.age_ms + self._keep_ms(row, age_ms), row.id),
        )
        return receipts

    def _clear(self, clearing: Clear, now: Moment) -> list[Receipt]:
        run = self._connection.execute
        row = run("SELECT id, bytes FROM rooms WHERE name = ?", (clearing.room,)).fetchone()
        clearing.deleted = 0
        if row is not None and row[1]:
            [(clearing.deleted,)] = run("SELECT count(*) FROM events WHERE room = ?", (row[0],))
            self._forget_events(row[0], now.age_ms)
        return []

    def _keep_ms(self, row: _RoomRow, age_ms: int) -> int:
        """Return how long to keep the room's events or, if it holds none, its row."""
        if row.bytes:
            return age_ms
        # A room with nothing but keys has no position to keep.
        return max(age_ms, self.idempotency_ms) if row.offset else self.idempotency_ms

    def _room(self, name: str) -> _RoomRow:
        found = self._connection.execute(
            "SELECT id, epoch, offset, first_held, bytes, age_ms FROM rooms WHERE name = ?", (name,)
        ).fetchone()
        if found is not None:
            return _RoomRow(*found)
        epoch = first_epoch(self._connection, self._secret, name)
        cursor = self._connection.execute(
            "INSERT INTO rooms (name, epoch, offset, first_held, bytes, age_ms, expires_ms)"
            " VALUES (?, ?, 0, 1, 0, 0, 0)",
            (name, epoch),
        )
        assert cursor.lastrowid is not None
        return _RoomRow(cursor.lastrowid, epoch, 0, 1, 0, 0)

    def _place(self, row: _RoomRow, draft: Draft, now: Moment) -> Receipt:
        key = draft.key
        if key is not None:
            known = self._connection.execute(
                "SELECT offset FROM keys WHERE room = ? AND scope = ? AND key = ? AND expires_ms > ?",
                (row.id, key.scope, key.key, now.age_ms),
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
                (row.id, key.scope, key.key, offset, now.age_ms + self.idempotency_ms),
            )
        position = None if offset is None else Position(row.epoch, offset)
        return Receipt(position, Event(draft.content, now.time_ms, offset, draft.header))

    def _trim(self, row: _RoomRow, retention: Retention, now_ms: int, known: int) -> None:
        """Delete events beyond the retention, from the front.

        Events up to the offset `known` are subject to the former age too: readers may have been refused them.
        """
        oldest_known_ms = now_ms - row.age_ms
        oldest_ms = now_ms - int(retention.age_seconds * 1000)
        first = row.first_held
        oldest = self._connection.execute(
            "SELECT offset, time_ms - skew_ms, length(content) FROM events WHERE room = ? ORDER BY offset",
            (row.id,),
        )
        for offset, appended_ms, size in oldest:
            held = row.offset - offset + 1
            is_young = appended_ms > oldest_ms and (offset > known or appended_ms > oldest_known_ms)
            if held <= retention.messages and row.bytes <= retention.bytes and is_young:
                break
            row.bytes -= size
            first = offset + 1
        oldest.close()
        if first != row.first_held:
            self._connection.execute("DELETE FROM events WHERE room = ? AND offset < ?", (row.id, first))
            row.first_held = first

    def _forget(self, now_ms: int, limit: int) -> None:
        """Delete expired keys and answers, the events of rooms whose newest event has expired, and the rows of empty rooms.

        About `limit` of each: after a long idle time many have expired, and no append is to wait for all of them.
        """
        run = self._connection.execute
        run(
            "DELETE FROM keys WHERE (room, scope, key) IN"
            " (SELECT room, scope, key FROM keys WHERE expires_ms <= ? LIMIT ?)",
            (now_ms, limit),
        )
        forget_answers(self._connection, now_ms, limit)
        expired = run(
            "SELECT id, name, epoch, offset, first_held, bytes FROM rooms WHERE expires_ms <= ?"
            " ORDER BY expires_ms LIMIT ?",
            (now_ms, limit),
        ).fetchall()
        for room, name, epoch, offset, first_held, held_bytes in expired:
            if limit <= 0:
                break
            limit -= 1 + offset + 1 - first_held
            if held_bytes:
                self._forget_events(room, now_ms)
            else:
                self._forget_room(room, name, Position(epoch, offset))

    def _forget_events(self, room: int, now_ms: int) -> None:
        """Delete a room's events; its row, with its position, stays for the idempotency window."""
        self._connection.execute("DELETE FROM events WHERE room = ?", (room,))
        self._connection.execute(
            "UPDATE rooms SET first_held = offset + 1, bytes = 0, expires_ms = ? WHERE id = ?",
            (now_ms + self.idempotency_ms, room),
        )

    def _forget_room(self, room: int, name: str, position: Position) -> None:
        """Delete the row of an empty room; if it ever had events, its epoch must not come back."""
        # No key may be left, as the room's number may be used again.
        self._connection.execute("DELETE FROM keys WHERE room = ?", (room,))
        self._connection.execute("DELETE FROM rooms WHERE id = ?", (room,))
        if position.offset:
            bucket = bucket_of(name)
            self._connection.execute(
                "INSERT INTO forgotten VALUES (?, 1) ON CONFLICT DO UPDATE SET generation = generation + 1",
                (bucket,),
            )
            self._next_total += bucket_weight(bucket) - room_weight(room, position.epoch) * position.offset


_OLDEST_FIRST = """
    SELECT offset, time_ms, content, header FROM events WHERE room = ? AND offset >= ? ORDER BY offset LIMIT ?
"""
_NEWEST_FIRST = """
    SELECT offset, time_ms, content, header FROM events WHERE room = ? AND offset >= ? ORDER BY offset DESC LIMIT ?
"""


@attrs.frozen
class Reader:
    """Reads committed rows. One thread at a time."""

    connection: sqlite3.Connection
    secret: bytes

    def position(self, room: str) -> Position:
        """Return a room's position.

        :raises sqlite3.Error: if it cannot be read.
        """
        found = self.connection.execute("SELECT epoch, offset FROM rooms WHERE name = ?", (room,)).fetchone()
        if found is not None:
            return Position(*found)
        return Position(first_epoch(self.connection, self.secret, room), 0)

    def run(self, room: str, *, after: int, limit: int | None, reverse: bool, age_ms: int) -> Run:
        """Return a run of a room's events as `Engine.read` does; `age_ms` is the age clock's time.

        :raises sqlite3.Error: if it cannot be read.
        """
        run = self.connection.execute
        run("BEGIN")
        try:
            found = run(
                "SELECT id, epoch, offset, first_held, age_ms FROM rooms WHERE name = ?", (room,)
            ).fetchone()
            if found is None:
                return Run(Position(first_epoch(self.connection, self.secret, room), 0), 1, ())
            number, epoch, offset, first_held, keep_ms = found
            first_held = _first_young(self.connection, number, first_held, age_ms - keep_ms)
            query = _NEWEST_FIRST if reverse else _OLDEST_FIRST
            # Bounded by the room's offset: SQLite's integers end at 2**63 - 1, and `after` may be just that.
            start = min(max(after + 1, first_held), offset + 1)
            most = offset if limit is None else min(limit, offset)
            rows = run(query, (number, start, most)).fetchall()
        finally:
            if self.connection.in_transaction:
                run("ROLLBACK")
        events = tuple(
            Event(content, time_ms, place, _header(packed, content))
            for place, time_ms, content, packed in rows
        )
        return Run(Position(epoch, offset), min(first_held, offset + 1), events)


def _header(packed: bytes | None, content: bytes) -> EventHeader:
    """Return the stored header, or the one of an event that was stored without."""
    return read_header(content) if packed is None else _headers.decode(packed)


def _first_young(connection: sqlite3.Connection, room: int, first_held: int, oldest_ms: int) -> int:
    """Return the oldest held offset that is not too old; the next append deletes those that are."""
    rows = connection.execute(
        "SELECT offset, time_ms - skew_ms FROM events WHERE room = ? AND offset >= ? ORDER BY offset",
        (room, first_held),
    )
    for offset, appended_ms in rows:
        if appended_ms > oldest_ms:
            return int(offset)
        first_held = offset + 1
    return first_held
