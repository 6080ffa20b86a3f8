"""The lock of the file, the operations on it, and the checks at the start."""

import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.engine.base import Retention
from broker.engine.sqlite.engine import SqliteEngine
from broker.engine.sqlite.file import APPLICATION_ID, LOG_BYTES, MIGRATIONS
from broker.errors import ConfigurationError, EngineUnavailableError
from broker.model import Draft, EventHeader, Position
from tests.engine.sqlite_files import KEEP, Wall, connected, copied, draft, opened
from tests.support.drafts import drafts

BEFORE_HEADERS = 5
"""The version of files whose events have no header."""


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
        (tmp_path, "is a directory"),
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


async def test_another_file_has_other_epochs(tmp_path):
    epochs = []
    for name in ("rooms.db", "others.db"):
        async with opened(tmp_path / name) as engine:
            epochs += [(await engine.position(room)).epoch for room in ("den", "attic")]
    assert len(set(epochs)) == 4


async def test_the_file_can_be_copied_while_it_is_used(tmp_path):
    """The write-ahead log belongs to the file: both together are a backup."""
    async with opened(tmp_path / "rooms.db") as engine:
        await engine.append("den", [draft(1)], KEEP)
        copy = copied(tmp_path / "rooms.db", "copy.db")
    async with opened(copy) as engine:
        assert (await engine.position("den")).offset == 1


async def test_rows_of_empty_rooms_in_a_file_of_an_earlier_version_go_with_their_keys(tmp_path):
    path, wall = tmp_path / "rooms.db", Wall()
    now_ms = int(wall.now * 1000)
    with connected(path) as connection:
        for step in MIGRATIONS[:2]:
            connection.executescript(step)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 2")
        for number in range(50):
            connection.execute(
                "INSERT INTO rooms VALUES (?, ?, 'old', 1, 2, 0, 60000, ?)",
                (number, f"room {number}", now_ms - 1000),
            )
        connection.execute("INSERT INTO keys VALUES (7, 'ann', 'k', 1, ?)", (now_ms + 100_000,))
    async with opened(path, wall) as engine:
        wall.now += 99
        await engine.append("den", [draft(1)], KEEP)
        before = await engine.position("room 8")
        [again] = await engine.append("room 7", [draft(1, "k")], KEEP)
        assert (again.position, again.event) == (await engine.position("room 7"), None)
        wall.now += 2
        await engine.append("den", [draft(1)], KEEP)
        assert (before.offset, (await engine.position("room 8")).offset) == (1, 0)
    with connected(path) as connection:
        assert connection.execute("SELECT count(*) FROM rooms").fetchone() == (2,)


async def test_a_file_of_an_earlier_version_is_brought_up(tmp_path):
    path = tmp_path / "rooms.db"
    with connected(path) as connection:
        connection.executescript(MIGRATIONS[0])
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        connection.execute("INSERT INTO rooms VALUES (1, 'den', 'old', 1, 1, 2, 86400000, 1800000000000)")
        connection.execute("INSERT INTO events VALUES (1, 1, 1700000000000, '{}')")
    async with opened(path) as engine:
        # No witness was there for such a file.
        before = await engine.position("den")
        assert before.epoch != "old"
        [receipt] = await engine.append("den", [draft(2)], KEEP)
        assert receipt.position == Position(before.epoch, 2)
        assert len((await engine.read("den")).events) == 2
        assert (await engine.position("attic")).offset == 0
    with connected(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(drafts(), min_size=10, max_size=20))
def test_events_of_a_file_without_headers_have_those_that_new_ones_have(written: list[Draft]) -> None:
    lasting = [Draft(draft.content, header=draft.header) for draft in written]

    async def read(path: Path) -> list[EventHeader]:
        async with opened(path, synchronous="off") as engine:
            return [event.header for event in (await engine.read("den")).events]

    async def play(directory: Path) -> None:
        path = directory / "file" / "rooms.db"
        path.parent.mkdir()
        with connected(path) as connection:
            for step in MIGRATIONS[:BEFORE_HEADERS]:
                connection.executescript(step)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {BEFORE_HEADERS}")
            connection.execute(
                "INSERT INTO rooms VALUES (1, 'den', 'old', ?, 1, ?, 86400000, 1800000000000)",
                (len(lasting), sum(len(draft.content) for draft in lasting)),
            )
            connection.executemany(
                "INSERT INTO events (room, offset, time_ms, content) VALUES (1, ?, 1700000000000, ?)",
                [(offset, draft.content) for offset, draft in enumerate(lasting, 1)],
            )
        assert await read(path) == [draft.header for draft in lasting]
        async with opened(path, synchronous="off") as engine:
            await engine.append("den", lasting, KEEP)
        assert await read(path) == [draft.header for draft in (*lasting, *lasting)]
        with connected(path) as connection:
            stored = connection.execute("SELECT header FROM events ORDER BY offset").fetchall()
        packed = [
            msgspec.msgpack.encode([d.header.type, d.header.name, d.header.sender, None, [], None, None])
            for d in lasting
        ]
        assert [header for (header,) in stored] == [*[None] * len(lasting), *packed]

    with TemporaryDirectory() as directory:
        trio.run(play, Path(directory))


async def test_a_header_of_an_earlier_or_later_version_is_read(tmp_path):
    """It has fewer fields, or more."""
    path = tmp_path / "rooms.db"
    async with opened(path) as engine:
        await engine.append("den", [draft(1), draft(2), draft(3)], KEEP)
    with connected(path) as connection:
        update = "UPDATE events SET header = ? WHERE offset = ?"
        connection.execute(update, (msgspec.msgpack.encode(["order"]), 1))
        connection.execute(update, (msgspec.msgpack.encode(["event", "move", "ann"]), 2))
        later = ["event", "move", "ann", "c-1", [["kind", "goal"]], None, None, {"c": 1}, 7]
        connection.execute(update, (msgspec.msgpack.encode(later), 3))
    async with opened(path) as engine:
        headers = [event.header for event in (await engine.read("den")).events]
    assert headers == [
        EventHeader("order"),
        EventHeader("event", "move", "ann"),
        EventHeader("event", "move", "ann", "c-1", (("kind", "goal"),)),
    ]


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_nothing_is_stored_in_a_file_that_was_taken_away(tmp_path, is_replaced):
    path = tmp_path / "rooms.db"
    async with opened(path) as engine:
        await engine.append("den", [draft(1)], KEEP)
        path.rename(tmp_path / "elsewhere.db")
        if is_replaced:
            path.touch()
        with pytest.raises(EngineUnavailableError, match="removed or replaced"):
            await engine.append("den", [draft(2)], KEEP)
        with pytest.raises(EngineUnavailableError):
            await engine.wait_ready()
        (tmp_path / "elsewhere.db").rename(path)
        await engine.wait_ready()
        [receipt] = await engine.append("den", [draft(2)], KEEP)
        assert receipt.position.offset == 2


async def test_the_log_is_truncated_once_its_last_reader_has_ended(tmp_path):
    """As a backup does, or somebody with a shell."""
    path = tmp_path / "rooms.db"

    async def grow(engine: SqliteEngine, appends: int) -> int:
        for _ in range(appends):
            await engine.append("den", [draft(1, size=1 << 20)], Retention(1, 1 << 30, 60.0))
        log_bytes: int = path.with_name("rooms.db-wal").stat().st_size
        return log_bytes

    async with opened(path, synchronous="off") as engine:
        with connected(path) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM rooms").fetchall()
            assert await grow(engine, 24) > LOG_BYTES
        assert await grow(engine, 2) <= LOG_BYTES
