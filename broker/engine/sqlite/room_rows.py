"""State, timers and answers of rooms that applications write, as rows of the SQLite file. Blocking; no trio."""

import sqlite3
from collections.abc import Sequence

import attrs

from broker.engine.base import Receipt, Retention, is_kept
from broker.engine.room_store import (
    Answer,
    DueTimer,
    StoredRoom,
    StoredState,
    StoredTurn,
    drafts_of,
    receipts_by_turn,
)
from broker.model import Draft, IdempotencyKey, Position


@attrs.frozen
class StoreTurns:
    """Turns of one room, and the state after them; see `RoomStore.store`."""

    room: str
    turns: Sequence[StoredTurn]
    state: StoredState | None
    retention: Retention
    is_state_changed: bool

    @property
    def drafts(self) -> list[Draft]:
        """The drafts of all turns."""
        return drafts_of(self.turns)

    @property
    def has_rows(self) -> bool:
        """Whether it changes anything besides the history."""
        return self.is_state_changed or any(turn.timers or turn.answer is not None for turn in self.turns)

    @property
    def has_content(self) -> bool:
        """Whether it stores an event, a state or an answer.

        A commit without, which removes or moves timers or deletes a state, succeeds on a full disk too.
        """
        return (
            (self.is_state_changed and self.state is not None)
            or any(turn.answer is not None for turn in self.turns)
            or any(is_kept(draft) for draft in self.drafts)
        )


def store_rows(
    connection: sqlite3.Connection, storing: StoreTurns, receipts: Sequence[Receipt], expires_ms: int
) -> None:
    """Store, within a transaction, all but the drafts, whose receipts are given.

    Answers expire at `expires_ms` of the age clock.

    :raises sqlite3.Error: if they cannot be stored.
    """
    run, room, state = connection.execute, storing.room, storing.state
    if storing.is_state_changed and state is None:
        run("DELETE FROM states WHERE room = ?", (room,))
    elif storing.is_state_changed and state is not None:
        run(
            "INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?)",
            (room, state.class_name, state.version, state.content),
        )
    for turn, its_receipts in zip(storing.turns, receipts_by_turn(storing.turns, receipts), strict=True):
        for name, due_ms in turn.timers.items():
            if due_ms is None:
                run("DELETE FROM timers WHERE room = ? AND name = ?", (room, name))
            else:
                run("INSERT OR REPLACE INTO timers VALUES (?, ?, ?)", (room, name, due_ms))
        if turn.answer is not None:
            key, answer = turn.answer.key, turn.answer.of(its_receipts)
            place = (
                (None, None) if answer.position is None else (answer.position.epoch, answer.position.offset)
            )
            run(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)",
                (room, key.scope, key.key, answer.content, *place, expires_ms),
            )


def forget_answers(connection: sqlite3.Connection, now_ms: int, limit: int) -> None:
    """Delete, within a transaction, at most `limit` expired answers.

    :raises sqlite3.Error: if they cannot be deleted.
    """
    connection.execute(
        "DELETE FROM answers WHERE rowid IN (SELECT rowid FROM answers WHERE expires_ms <= ? LIMIT ?)",
        (now_ms, limit),
    )


def read_room(connection: sqlite3.Connection, room: str) -> StoredRoom:
    """Return what is stored of a room, as of one moment.

    :raises sqlite3.Error: if it cannot be read.
    """
    run = connection.execute
    run("BEGIN")
    try:
        state = run("SELECT class, version, content FROM states WHERE room = ?", (room,)).fetchone()
        timers = run("SELECT name, due_ms FROM timers WHERE room = ?", (room,)).fetchall()
    finally:
        if connection.in_transaction:
            run("ROLLBACK")
    return StoredRoom(None if state is None else StoredState(*state), dict(timers))


def read_answer(connection: sqlite3.Connection, room: str, key: IdempotencyKey, now_ms: int) -> Answer | None:
    """Return the answer stored with a key, unless it has expired.

    :raises sqlite3.Error: if it cannot be read.
    """
    found = connection.execute(
        "SELECT answer, epoch, offset FROM answers WHERE room = ? AND scope = ? AND key = ? AND expires_ms > ?",
        (room, key.scope, key.key, now_ms),
    ).fetchone()
    if found is None:
        return None
    content, epoch, offset = found
    return Answer(content, None if epoch is None else Position(epoch, offset))


def read_last_expiry(connection: sqlite3.Connection) -> int:
    """Return when the last of all answers expires, 0 if there is none.

    :raises sqlite3.Error: if it cannot be read.
    """
    (last_ms,) = connection.execute("SELECT ifnull(max(expires_ms), 0) FROM answers").fetchone()
    return int(last_ms)


def read_timers(connection: sqlite3.Connection, limit: int) -> list[DueTimer]:
    """Return the timers that are due first.

    :raises sqlite3.Error: if they cannot be read.
    """
    rows = connection.execute(
        "SELECT room, name, due_ms FROM timers ORDER BY due_ms, room, name LIMIT ?", (limit,)
    )
    return [DueTimer(*row) for row in rows]
