"""SQLite engines on files, for the tests of this directory."""

import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from broker.engine.base import Retention
from broker.engine.outbox import Queue
from broker.engine.sqlite.engine import SqliteEngine, open_sqlite
from broker.engine.sqlite.file import Synchronous
from broker.errors import EngineUnavailableError
from broker.log import stdlib_log
from broker.model import Draft, IdempotencyKey

KEEP = Retention(1000, 1 << 30, 86_400.0)


class Wall:
    """A clock that stands still until it is moved."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(
    path: Path,
    wall: Wall | None = None,
    synchronous: Synchronous = "full",
    boot: str = "first",
    idempotency_seconds: float = 300.0,
    witnesses: Path | None = None,
    queues: Sequence[Queue] = (),
) -> AsyncIterator[SqliteEngine]:
    if witnesses is None:
        # Beside the directory, and not restored with it.
        witnesses = path.parent.parent / "witnesses"
        witnesses.mkdir(parents=True, exist_ok=True)
    with trio.fail_after(60):
        async with open_sqlite(
            path,
            synchronous=synchronous,
            idempotency_seconds=idempotency_seconds,
            wall_clock=wall or Wall(),
            log=stdlib_log(),
            boot=boot,
            witness_directory=witnesses,
            queues=queues,
        ) as engine:
            yield engine


@contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """Look into a file beside the server."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def copied(path: Path, name: str) -> Path:
    """Copy a file as it is now, as a power loss might leave it."""
    copy = path.with_name(name)
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    return copy


async def fill_disk(engine: SqliteEngine, *, is_full: bool = True) -> None:
    """Let SQLite say SQLITE_FULL, as on a full disk, when the file would have to grow."""
    connection = engine._writer._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0] if is_full else 1_000_000
    connection.execute(f"PRAGMA max_page_count = {pages}")
    if is_full:
        with pytest.raises(EngineUnavailableError, match="full"):
            await engine.append("ballast", [draft(1, size=100_000)], KEEP)


def draft(number: int, key: str | None = None, size: int = 0, *, ephemeral: bool = False) -> Draft:
    content = b'{"type":"n","n":%d,"x":"%b"}' % (number, b"x" * size)
    return Draft(content, ephemeral, None if key is None else IdempotencyKey("ann", key))
