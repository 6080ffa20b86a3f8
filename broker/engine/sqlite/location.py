"""The location of a SQLite file: its only name, the files beside it, and the lock of one server on it. Blocking.

SQLite finds the write-ahead log by the name of the database: PATH-wal. A process that opens the same file by another
name (a hard link, a mount of the file alone) finds no log there, loses its contents, and does not see the other's
locks. So a file must have one name; symbolic links are followed first.
"""

import fcntl
import os
import stat
import sys
from contextlib import ExitStack
from pathlib import Path

from broker.errors import ConfigurationError

COMPANIONS = ("-wal", "-shm", "-journal", "-lock")
"""Suffixes of the files beside the database."""


def check_path(path: Path) -> Path:
    """Return the path, with links followed, of a file that exists or can be made.

    :raises ConfigurationError: if no database can have that name, or it is not the file's only name.
    """
    try:
        resolved = path.resolve()
        is_usable = resolved.is_file() or not resolved.exists()
        has_directory = resolved.parent.is_dir()
    except (OSError, RuntimeError, ValueError) as error:
        # Too long, a loop of links, a NUL.
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"server.engine: cannot open {str(path)!r}: {reason}") from None
    if not is_usable:
        what = "a directory" if resolved.is_dir() else "no regular file"
        raise ConfigurationError(f"server.engine: {resolved} is {what}; name a file")
    if not has_directory:
        raise ConfigurationError(
            f"server.engine: cannot open {resolved}: there is no directory {resolved.parent}"
        )
    for ending in ("", *COMPANIONS):
        file = resolved.with_name(resolved.name + ending)
        try:
            reason = _unsafe_name(file)
        except OSError as error:
            raise ConfigurationError(f"server.engine: cannot open {file}: {error.strerror}") from None
        if reason:
            raise ConfigurationError(f"server.engine: {file} {reason}")
    return resolved


def _unsafe_name(file: Path) -> str | None:
    """Return why a file may not be used by this name; None if it may, or if it does not exist."""
    try:
        found = file.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return "is no regular file; it belongs to the database beside it, in the same directory"
    if found.st_nlink > 1:
        return (
            f"has {found.st_nlink} names (hard links), and PATH-wal belongs to one of them only; "
            "leave one name, and make copies instead of links"
        )
    mount = _mount_of(file)
    if mount is not None and mount != _mount_of(file.parent):
        return f"is mounted by itself, without the files beside it; mount the directory, {file.parent}"
    return None


def _mount_of(file: Path) -> str | None:
    """Return the id of the mount through which a file is reached; None if unknown. See proc(5), fdinfo."""
    if sys.platform != "linux":
        return None
    # O_PATH: closing such a descriptor drops none of SQLite's locks.
    descriptor = os.open(file, os.O_PATH | os.O_NOFOLLOW)
    try:
        lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return next((line for line in lines if line.startswith("mnt_id:")), None)


def has_log(path: Path) -> bool:
    """Return whether the write-ahead log beside the file is not empty."""
    try:
        return path.with_name(path.name + "-wal").stat().st_size > 0
    except OSError:
        return False


def lock_database(path: Path) -> ExitStack:
    """Lock the file for this process; closing the stack unlocks it, as does the end of the process.

    Close it after the last connection to the database: closing any descriptor of the database drops SQLite's own
    locks in this process (fcntl(2), POSIX).

    :raises ConfigurationError: if another server has locked it, or it cannot be opened or made.
    """
    with ExitStack() as locks:
        # First by the name, so that a second server in this process does not even open the database.
        beside = _open(path.with_name(path.name + "-lock"), os.O_RDWR)
        locks.callback(os.close, beside)
        _lock(beside, path)
        # On Linux flock(2) and SQLite's fcntl(2) do not see each other; elsewhere they may, and the name must do.
        if sys.platform == "linux":
            database = _open(path, os.O_RDONLY)
            # If that fails the descriptor stays open: the server with the lock may be in this process.
            _lock(database, path)
            locks.callback(os.close, database)
        return locks.pop_all()


def _open(file: Path, flags: int) -> int:
    try:
        # For its owner alone: messages are private. SQLite gives its own files the mode of the database.
        return os.open(file, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigurationError(f"server.engine: cannot open {file}: {error.strerror}") from None


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ConfigurationError(
            f"server.engine: {path} is in use by another server; several servers need redis://"
        ) from None
