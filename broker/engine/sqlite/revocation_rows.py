"""Revocations of tokens as rows of the SQLite file. Blocking; no trio."""

import sqlite3

import attrs

from broker.auth.revocations import Revocation

MORE_DELETED = 1000
"""How many that have run out a store deletes, at most."""


@attrs.frozen
class Revoke:
    """A revocation to be stored; `now` is Unix seconds."""

    revocation: Revocation
    now: float


def store_row(connection: sqlite3.Connection, revoke: Revoke) -> None:
    """Store a revocation within a transaction, merged with that of its key, and delete some that have run out.

    :raises sqlite3.Error: if it cannot be stored.
    """
    connection.execute(
        "DELETE FROM revocations WHERE key IN"
        " (SELECT key FROM revocations WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
        (revoke.now, MORE_DELETED),
    )
    revocation = revoke.revocation
    connection.execute(
        "INSERT INTO revocations VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET"
        " expires_at = max(expires_at, excluded.expires_at),"
        " issued_before = max(issued_before, excluded.issued_before)",
        (revocation.key, revocation.expires_at, revocation.issued_before),
    )


def read_rows(connection: sqlite3.Connection, now: float) -> list[Revocation]:
    """Return the revocations that hold at `now`, in Unix seconds.

    :raises sqlite3.Error: if they cannot be read.
    """
    query = "SELECT key, expires_at, issued_before FROM revocations WHERE expires_at > ?"
    try:
        return [Revocation.of_key(*row) for row in connection.execute(query, (now,))]
    except ValueError as error:
        raise sqlite3.DatabaseError(f"a revocation that cannot be: {error}") from error
