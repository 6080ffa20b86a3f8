"""What the SQLite engine stores of rooms that applications write: over restarts, failures and earlier versions."""

from pathlib import Path

import pytest
import trio

from broker.engine.base import Retention
from broker.engine.room_store import Answer, DueTimer, StoredAnswer, StoredRoom, StoredState, StoredTurn
from broker.engine.sqlite.backup import back_up, restore
from broker.engine.sqlite.engine import SqliteEngine
from broker.engine.sqlite.file import APPLICATION_ID, MIGRATIONS
from broker.engine.sqlite.rows import MORE_FORGOTTEN
from broker.errors import EngineUnavailableError
from broker.model import IdempotencyKey
from tests.engine.sqlite_files import KEEP, Wall, connected, draft, fill_disk, opened

BEFORE_STATES = 8
"""The version of files without the tables."""

KEY = IdempotencyKey("ann", "k")
STATE = StoredState("Counter", 1, b'{"n":1}')
TURN = StoredTurn([draft(1)], {"a": 7}, StoredAnswer(KEY, b"1"))


async def save(engine: SqliteEngine, *turns: StoredTurn, state: StoredState | None = STATE) -> None:
    await engine.room_store.store("den", turns, state, KEEP, is_state_changed=True)


async def check_stored(engine: SqliteEngine) -> None:
    """Check that TURN and STATE are stored, and nothing else."""
    store = engine.room_store
    assert await store.load("den") == StoredRoom(STATE, {"a": 7})
    assert await store.recall("den", KEY) == Answer(b"1")
    assert list(await store.earliest_timers(10)) == [DueTimer("den", "a", 7)]
    assert [event.content for event in (await engine.read("den")).events] == [draft(1).content]


async def test_everything_outlives_the_process(tmp_path: Path) -> None:
    path, wall = tmp_path / "rooms.db", Wall()
    async with opened(path, wall) as engine:
        await save(engine, TURN)
        before = await engine.position("den")
    async with opened(path, wall) as engine:
        await check_stored(engine)
        assert await engine.position("den") == before
    wall.now += 300
    async with opened(path, wall) as engine:
        assert await engine.room_store.recall("den", KEY) is None
        assert engine.room_store.now_ms() == int(wall.now * 1000)


async def test_everything_is_in_a_backup(tmp_path: Path) -> None:
    path = tmp_path / "rooms.db"
    async with opened(path) as engine:
        await save(engine, TURN)
        back_up(path, tmp_path / "copy.db")
        await save(engine, StoredTurn([draft(2)], {"a": 8}, StoredAnswer(KEY, b"2")), state=None)
    restore(tmp_path / "copy.db", path, replace=True)
    async with opened(path) as engine:
        await check_stored(engine)


async def test_a_file_of_an_earlier_version_gets_the_tables(tmp_path: Path) -> None:
    path = tmp_path / "rooms.db"
    with connected(path) as connection:
        for step in MIGRATIONS[:BEFORE_STATES]:
            connection.executescript(step)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {BEFORE_STATES}")
        connection.execute("INSERT INTO rooms VALUES (1, 'den', 'old', 1, 1, 2, 86400000, 1800000000000)")
        connection.execute("INSERT INTO events VALUES (1, 1, 1700000000000, '{}', 0, NULL)")
        connection.execute("INSERT INTO revocations VALUES ('jti:x', 1800000000.0, NULL)")
    async with opened(path) as engine:
        assert await engine.room_store.load("den") == StoredRoom()
        await save(engine, TURN)
        assert (await engine.position("den")).offset == 2
        assert len((await engine.read("den")).events) == 2
        assert await engine.room_store.load("den") == StoredRoom(STATE, {"a": 7})
    with connected(path) as connection:
        assert connection.execute("SELECT count(*) FROM revocations").fetchone() == (1,)


@pytest.mark.parametrize(
    ("turn", "state"),
    [
        (StoredTurn([draft(2), draft(3, size=100_000)], {"a": None, "b": 1}, StoredAnswer(KEY, b"2")), None),
        (StoredTurn([draft(2)], {"a": 1}, StoredAnswer(KEY, b"2" * 100_000)), None),
        (
            StoredTurn([draft(2)], {"a": 1}, StoredAnswer(KEY, b"2")),
            StoredState("Counter", 1, bytes(100_000)),
        ),
    ],
    ids=["event", "answer", "state"],
)
async def test_what_does_not_fit_on_the_disk_leaves_nothing(
    tmp_path: Path, turn: StoredTurn, state: StoredState | None
) -> None:
    async with opened(tmp_path / "rooms.db") as engine:
        await save(engine, TURN)
        before = await engine.position("den")
        await fill_disk(engine)
        with pytest.raises(EngineUnavailableError, match="full"):
            await save(engine, StoredTurn([draft(0)], {"c": 1}), turn, state=state)
        await check_stored(engine)
        assert await engine.position("den") == before
        # Ephemeral events alone store nothing.
        commits = engine.statistics().commits
        ephemeral = StoredTurn([draft(2, ephemeral=True)])
        [[receipt]] = await engine.room_store.store("den", [ephemeral], None, KEEP, is_state_changed=False)
        assert receipt.event is not None
        assert engine.statistics().commits == commits
        await fill_disk(engine, is_full=False)
        await save(engine, turn, state=state)
        assert (await engine.room_store.load("den")).state == state


async def test_only_what_stores_content_shows_that_there_is_space(tmp_path: Path) -> None:
    async with opened(tmp_path / "rooms.db") as engine:
        await save(engine, TURN)
        await fill_disk(engine)
        await save(engine, StoredTurn([draft(2, ephemeral=True)], {"a": None}), state=None)
        assert not engine.health().is_up
        await fill_disk(engine, is_full=False)
        await save(engine)
        assert engine.health().is_up


async def test_a_turn_that_cannot_be_written_fails_alone(tmp_path: Path) -> None:
    """With any cause, after parts of it were written; the others of its transaction are stored."""
    failed = []

    async def store(engine: SqliteEngine, room: str, name: str) -> None:
        turns = [StoredTurn([draft(1)], {"a": 7}, StoredAnswer(KEY, b"1")), StoredTurn([draft(2)], {name: 1})]
        try:
            await engine.room_store.store(room, turns, STATE, KEEP, is_state_changed=True)
        except EngineUnavailableError:
            failed.append(room)

    async with opened(tmp_path / "rooms.db") as engine:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                name = "a lone surrogate: \ud800" if number == 13 else "b"
                nursery.start_soon(store, engine, f"room {number}", name)
        assert failed == ["room 13"]
        for number in range(20):
            room, is_stored = f"room {number}", number != 13
            expected = StoredRoom(STATE, {"a": 7, "b": 1}) if is_stored else StoredRoom()
            assert await engine.room_store.load(room) == expected
            assert await engine.room_store.recall(room, KEY) == (Answer(b"1") if is_stored else None)
            assert (await engine.position(room)).offset == (2 if is_stored else 0)


async def test_stores_that_wait_together_are_one_transaction(tmp_path: Path) -> None:
    async with opened(tmp_path / "rooms.db") as engine:

        async def store(number: int) -> None:
            turns = [StoredTurn([draft(number)], {"a": number})]
            await engine.room_store.store(f"room {number}", turns, STATE, KEEP, is_state_changed=True)

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(store, number)
                nursery.start_soon(engine.append, f"room {number}", [draft(number)], KEEP)
        assert engine.statistics().messages == 100
        assert engine.statistics().commits <= 2


async def test_turns_without_lasting_drafts_make_no_room(tmp_path: Path) -> None:
    path = tmp_path / "rooms.db"
    async with opened(path) as engine:
        await save(engine, StoredTurn([draft(1, ephemeral=True)], {"a": 7}))
        with connected(path) as connection:
            assert connection.execute("SELECT count(*) FROM rooms").fetchone() == (0,)


async def test_a_closed_engine_stores_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rooms.db"
    async with opened(path) as engine:
        await save(engine, TURN)
    with pytest.raises(EngineUnavailableError, match="closed"):
        await save(engine, StoredTurn([draft(2)], {"b": 1}, StoredAnswer(KEY, b"2")), state=None)
    async with opened(path) as engine:
        await check_stored(engine)


async def test_a_store_that_is_cancelled_is_stored_whole(tmp_path: Path) -> None:
    async with opened(tmp_path / "rooms.db") as engine:
        with trio.move_on_after(0):
            await save(engine, TURN)
        # It was begun, and what is begun later is done later.
        await engine.append("attic", [draft(1)], KEEP)
        await check_stored(engine)


async def test_expired_answers_are_all_deleted_in_small_steps(tmp_path: Path) -> None:
    path, wall = tmp_path / "rooms.db", Wall()
    async with opened(path, wall) as engine:
        many = 3 * MORE_FORGOTTEN
        with connected(path) as connection:
            # A store deletes at least as many as it adds.
            for first in (0, many):
                keys = (IdempotencyKey("ann", str(number)) for number in range(first, first + many))
                await save(engine, *(StoredTurn(answer=StoredAnswer(key, b"1")) for key in keys))
                assert connection.execute("SELECT count(*) FROM answers").fetchone() == (many,)
                wall.now += 301
            counts = []
            while not counts or counts[-1]:
                await engine.append("attic", [draft(1)], Retention(1, 1000, 60.0))
                counts += connection.execute("SELECT count(*) FROM answers").fetchone()
        assert len(counts) == 3
        assert await engine.room_store.load("den") == StoredRoom(STATE)


async def test_an_id_is_looked_up_in_the_file_only_if_it_may_be_there(tmp_path: Path) -> None:
    """While an earlier process's answers hold, each id is; then those that this process has stored."""
    path, wall = tmp_path / "rooms.db", Wall()
    new = IdempotencyKey("ann", "new")
    async with opened(path, wall) as engine:
        assert not await is_read(engine, new)
        await save(engine, TURN)
        assert await is_read(engine, KEY)
        assert not await is_read(engine, new)
    async with opened(path, wall) as engine:
        assert await is_read(engine, KEY)
        assert await is_read(engine, new)
        wall.now += 300
        assert not await is_read(engine, KEY)
        assert not await is_read(engine, new)


async def is_read(engine: SqliteEngine, key: IdempotencyKey) -> bool:
    """Whether the file is read for a key: a task that reads lets others run."""
    other = trio.Event()

    async def run() -> None:
        other.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await engine.room_store.recall("den", key)
        others_that_ran = int(other.is_set())
    return others_that_ran > 0
