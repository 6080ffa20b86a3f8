"""Copies of a SQLite file: the backup of a running server's, and its return. Blocking; no trio.

A copy is one file without a write-ahead log, checked as a whole before it has its name. It names no witness
(`broker.engine.sqlite.witness`), so wherever and however it is put back, its rooms begin new epochs.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from broker.engine.sqlite.file import APPLICATION_ID, MIGRATIONS
from broker.engine.sqlite.location import COMPANIONS, check_path, lock_database
from broker.errors import ConfigurationError

_UNFINISHED = ".unfinished"
"""Suffix of a copy that is being made."""


def back_up(path: Path, copy: Path, *, replace: bool = False) -> int:
    """Copy the database at `path`, as of one moment, to the file `copy`; returns its size in bytes.

    A server may go on with the database: it reads and commits meanwhile. `copy` exists as a whole or not at all.

    :raises ConfigurationError: if there is no such database, it is damaged, or the copy cannot be written; or if
        `copy` exists, unless `replace`.
    """
    path = check_path(path)
    _check_is_there(path)
    return _copy(path, copy, replace=replace)


def restore(copy: Path, path: Path, *, replace: bool = False) -> int:
    """Put a copy in the place of the database at `path`, which no server may use; returns its size in bytes.

    The copy stays. A crash on the way leaves the database as it was, without its last commits, or replaced; never parts
    of both.

    :raises ConfigurationError: as `back_up`, and if a server uses the database.
    """
    path = check_path(path)
    _check_is_there(copy)
    had_database = path.exists()
    if had_database and not replace:
        raise ConfigurationError(f"{path} exists; --replace puts the copy in its place")
    with lock_database(path):
        try:
            return _copy(copy, path, replace=True)
        except BaseException:
            if not had_database:
                # The lock made it.
                path.unlink(missing_ok=True)
            raise


def _check_is_there(path: Path) -> None:
    if not path.is_file():
        raise ConfigurationError(f"{path} is no file")


def _copy(source: Path, target: Path, *, replace: bool) -> int:
    if target.exists() and source.samefile(target):
        raise ConfigurationError(f"{source} cannot be copied to itself")
    if not replace and os.path.lexists(target):
        raise ConfigurationError(f"{target} exists; --replace replaces it")
    unfinished = target.with_name(target.name + _UNFINISHED)
    try:
        try:
            # For its owner alone: messages are private.
            os.close(os.open(unfinished, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, 0o600))
            _copy_database(source, unfinished)
            _sync(unfinished)
            size = unfinished.stat().st_size
            for suffix in COMPANIONS:
                if suffix != "-lock":
                    target.with_name(target.name + suffix).unlink(missing_ok=True)
            unfinished.replace(target)
            _sync(target.parent)
        finally:
            unfinished.unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{source} cannot be copied to {target}: {reason}") from None
    return size


def _copy_database(source: Path, target: Path) -> None:
    """Write a checked copy that is one file.

    :raises ConfigurationError: if the source is no file of ours, or damaged.
    """
    address = f"file:{quote(str(source.resolve()))}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as original, closing(sqlite3.connect(target)) as made:
        _check_is_ours(original, source)
        # In one step, which holds one snapshot: pages written meanwhile would begin the copy anew.
        original.backup(made)
        made.execute("PRAGMA journal_mode = DELETE")
        if made.execute("SELECT 1 FROM pragma_table_info('file') WHERE name = 'witness'").fetchone():
            made.execute("UPDATE file SET witness = ''")
            made.commit()
        flaws = made.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if flaws != "ok":
            raise ConfigurationError(f"{source} is damaged: {flaws}")


def _check_is_ours(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise ConfigurationError(f"{path} is no database of greenroom")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise ConfigurationError(f"{path} was written by a later greenroom (version {version})")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
