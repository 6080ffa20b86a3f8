"""What only a file can do: outlive the process, be full, be somebody else's."""

import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from broker.engine.base import Retention
from broker.engine.sqlite import SqliteEngine, open_sqlite
from broker.engine.sqlite_file import MIGRATIONS
from broker.errors import ConfigurationError, EngineUnavailableError
from broker.log import stdlib_log
from broker.model import Draft, IdempotencyKey, Position

KEEP = Retention(1000, 1 << 30, 86_400.0)


class Wall:
    """A clock that stands still until it is moved."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(path: Path, wall: Wall | None = None) -> AsyncIterator[SqliteEngine]:
    async with open_sqlite(
        path,
        synchronous="full",
        idempotency_seconds=300.0,
        wall_clock=wall or Wall(),
        log=stdlib_log(),
    ) as engine:
        yield engine


def draft(number: int, key: str | None = None, size: int = 0) -> Draft:
    content = b'{"type":"n","n":%d,"x":"%b"}' % (number, b"x" * size)
    return Draft(content, key=None if key is None else IdempotencyKey("ann", key))


async def test_everything_outlives_the_process(tmp_path):
    async with opened(tmp_path / "rooms.db") as engine:
        before = await engine.position("den")
        receipts = await engine.append("den", [draft(1, "a"), draft(2)], KEEP)
        assert [r.position for r in receipts] == [Position(before.epoch, 1), Position(before.epoch, 2)]
    async with opened(tmp_path / "rooms.db") as engine:
        assert await engine.position("den") == Position(before.epoch, 2)
        run = await engine.read("den")
        assert [event.offset for event in run.events] == [1, 2]
        again = await engine.append("den", [draft(1, "a")], KEEP)
        assert again[0].position == Position(before.epoch, 1)
        assert again[0].event is None


async def test_appends_that_wait_together_are_one_transaction(tmp_path):
    async with opened(tmp_path / "rooms.db") as engine:
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(engine.append, f"room {number}", [draft(number)], KEEP)
        statistics = engine.statistics()
        assert statistics.messages == 50
        # The first may go alone; the rest gathers while it is committed.
        assert statistics.commits <= 2


async def test_a_second_server_on_the_same_file_is_refused(tmp_path):
    async with opened(tmp_path / "rooms.db"):
        with pytest.raises(ConfigurationError, match="in use by another server"):
            async with opened(tmp_path / "rooms.db"):
                pass
    async with opened(tmp_path / "rooms.db") as engine:
        await engine.wait_ready()


async def test_files_that_are_not_ours_are_refused(tmp_path):
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    later = tmp_path / "later.db"
    async with opened(later):
        pass
    connection = sqlite3.connect(later)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    rubbish = tmp_path / "rubbish.db"
    rubbish.write_bytes(b"this is no database at all" * 1000)
    for path, reason in (
        (foreign, "another program"),
        (later, "later greenroom"),
        (rubbish, "not a database"),
        (tmp_path / "no" / "such" / "directory.db", "cannot open"),
        (tmp_path, "cannot be used"),
    ):
        with pytest.raises(ConfigurationError, match=reason):
            async with opened(path):
                pass


async def test_a_corrupt_file_is_refused_at_start(tmp_path):
    path = tmp_path / "rooms.db"
    async with opened(path) as engine:
        await engine.append("den", [draft(n, size=2000) for n in range(200)], KEEP)
    content = bytearray(path.read_bytes())
    content[8192:65_536] = b"\xff" * (65_536 - 8192)
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"corrupt|malformed"):
        async with opened(path):
            pass


async def test_a_full_disk_is_unavailable_and_heals(tmp_path):
    async with opened(tmp_path / "rooms.db") as engine:
        await engine.append("den", [draft(1)], KEEP)
        # As a full disk does, this makes SQLite say SQLITE_FULL.
        pages = engine._writer._connection.execute("PRAGMA page_count").fetchone()[0]
        engine._writer._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(EngineUnavailableError, match="full"):
            await engine.append("den", [draft(2, "k", size=100_000)], KEEP)
        assert [event.offset for event in (await engine.read("den")).events] == [1]
        engine._writer._connection.execute("PRAGMA max_page_count = 1000000")
        await engine.wait_ready()
        receipts = await engine.append("den", [draft(2, "k", size=100_000)], KEEP)
        assert receipts[0].position.offset == 2


async def test_events_of_silent_rooms_leave_the_file(tmp_path):
    wall = Wall()
    async with opened(tmp_path / "rooms.db", wall) as engine:
        first = await engine.append("den", [draft(1)], Retention(10, 1 << 20, 60.0))
        wall.now += 61
        await engine.append("another", [draft(1)], KEEP)
        count = engine._readers[0].execute("SELECT count(*) FROM events").fetchone()
        assert count == (1,)
        run = await engine.read("den")
        assert run.events == ()
        assert run.position == first[0].position
        assert run.can_continue(first[0].position)
        assert not run.can_continue(Position(run.position.epoch, 0))


async def test_a_cancelled_append_is_stored_whole_or_not(tmp_path):
    async with opened(tmp_path / "rooms.db") as engine:
        with trio.move_on_after(0):
            await engine.append("den", [draft(1, "a"), draft(2, "b")], KEEP)
        receipts = await engine.append("den", [draft(1, "a"), draft(2, "b")], KEEP)
        assert [r.position.offset for r in receipts] == [1, 2]
        assert len((await engine.read("den")).events) == 2


async def test_the_file_can_be_copied_while_it_is_used(tmp_path):
    """The write-ahead log belongs to the file: both together are a backup."""
    async with opened(tmp_path / "rooms.db") as engine:
        await engine.append("den", [draft(1)], KEEP)
        for name in ("rooms.db", "rooms.db-wal"):
            shutil.copy(tmp_path / name, tmp_path / f"copy-{name}")
    for name in ("rooms.db", "rooms.db-wal"):
        (tmp_path / f"copy-{name}").rename(tmp_path / f"copy{name.removeprefix('rooms')}")
    async with opened(tmp_path / "copy.db") as engine:
        assert (await engine.position("den")).offset == 1
