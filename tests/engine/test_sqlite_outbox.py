"""The outbox and the book of who is present outlive the process, at whatever moment it ends."""

import json
from functools import reduce
from pathlib import Path

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from broker.engine.attendance import user_place
from broker.engine.outbox import Entry, Kind, Queue
from broker.engine.sqlite.engine import SqliteEngine
from broker.engine.sqlite.outbox import net_changes
from broker.engine.sqlite.outbox_rows import PARTITION, Presence
from broker.errors import EngineUnavailableError
from tests.engine.sqlite_files import KEEP, Wall, connected, copied, draft, fill_disk, opened

QUEUES = (
    Queue("held", frozenset(Kind), hold_back_seconds=5.0),
    Queue("at once", frozenset(Kind), hold_back_seconds=0.0),
)
BEFORE_OUTBOX = 7
"""The version of files without the tables."""

JOINED, LEFT = Kind.USER_JOINED, Kind.USER_LEFT
OCCUPIED, VACATED = Kind.ROOM_OCCUPIED, Kind.ROOM_VACATED
ONLINE, OFFLINE = Kind.USER_ONLINE, Kind.USER_OFFLINE


async def entries(engine: SqliteEngine, queue: str) -> list[Entry]:
    assert engine.outbox is not None
    await engine.attendance_written()
    return list(await engine.outbox.read(PARTITION, queue, limit=1000))


async def kinds(engine: SqliteEngine, queue: str = "at once") -> list[Kind]:
    return [entry.kind for entry in await entries(engine, queue)]


def come(engine: SqliteEngine) -> None:
    assert engine.attendance is not None
    engine.attendance.came("den", "ann", None)
    engine.attendance.came(user_place("ann"), "ann", None)


async def test_entries_and_their_numbers_outlive_restarts(tmp_path: Path) -> None:
    path = tmp_path / "rooms.db"
    async with opened(path, queues=QUEUES) as engine:
        assert engine.outbox is not None
        await engine.append("den", [draft(1), draft(2)], KEEP)
        before = await entries(engine, "held")
        fence = await engine.outbox.lease(PARTITION, "a", 60.0)
        assert fence is not None
        await engine.outbox.put_aside(PARTITION, "held", [before[0].number], "gone", fence)
        at_once = await entries(engine, "at once")
        await engine.outbox.remove(PARTITION, "at once", [entry.number for entry in at_once], fence)
    async with opened(path, queues=QUEUES) as engine:
        assert engine.outbox is not None
        assert await entries(engine, "held") == before[1:]
        [aside] = await engine.outbox.list_aside(PARTITION, "held", limit=10)
        assert (aside.entry, aside.reason) == (before[0], "gone")
        await engine.append("den", [draft(3)], KEEP)
        [entry] = await entries(engine, "at once")
        # Although every entry of this queue is gone.
        assert entry.number > max(each.number for each in [*before, *at_once])
        assert entry.epoch == before[0].epoch


@pytest.mark.parametrize("is_killed", [False, True])
async def test_everybody_is_gone_after_a_restart(tmp_path: Path, *, is_killed: bool) -> None:
    """Killed: the file goes on as it was, with all that was written, and the process tells nobody that it ends."""
    path, wall = tmp_path / "rooms.db", Wall()
    async with opened(path, wall, queues=QUEUES) as engine:
        come(engine)
        assert await kinds(engine, "held") == [OCCUPIED, JOINED, ONLINE]
        after_kill = copied(path, "copy.db")
        assert engine.attendance is not None
        engine.attendance.left("den", "ann")
        engine.attendance.left(user_place("ann"), "ann")
    if is_killed:
        path = after_kill
    wall.now += 60.0
    async with opened(path, wall, queues=QUEUES) as engine:
        gone = [OCCUPIED, JOINED, ONLINE, LEFT, VACATED, OFFLINE]
        assert sorted(await kinds(engine)) == sorted(gone)
        # What was held back waits from the time of the leave: at the latest the start, after a kill.
        assert await kinds(engine, "held") == (gone[:3] if is_killed else gone)
        wall.now += 5.0
        assert sorted(await kinds(engine, "held")) == sorted(gone)
    async with opened(path, wall, queues=QUEUES) as engine:
        assert sorted(await kinds(engine, "held")) == sorted(gone)


async def test_who_returns_soon_after_a_kill_has_not_left(tmp_path: Path) -> None:
    path, wall = tmp_path / "rooms.db", Wall()
    async with opened(path, wall, queues=QUEUES) as engine:
        come(engine)
        await engine.attendance_written()
        after_kill = copied(path, "copy.db")
    wall.now += 600.0
    async with opened(after_kill, wall, queues=QUEUES) as engine:
        assert await kinds(engine, "held") == [OCCUPIED, JOINED, ONLINE]
        wall.now += 4.9
        come(engine)
        assert await kinds(engine, "held") == [OCCUPIED, JOINED, ONLINE]
        wall.now += 60.0
        assert await kinds(engine, "held") == [OCCUPIED, JOINED, ONLINE]


async def test_at_any_moment_of_a_kill_the_books_balance(tmp_path: Path) -> None:
    """Each copy of the file, made while changes are written, holds a state that one side can be told from."""
    path = tmp_path / "rooms.db"
    copies = []
    async with opened(path, queues=QUEUES) as engine:
        assert engine.attendance is not None
        for number in range(6):
            come(engine)
            await engine.append("den", [draft(number)], KEEP)
            # SQLite copies it as it is; what is not committed yet is not in it.
            with connected(path) as connection:
                copy = tmp_path / f"copy{number}.db"
                connection.execute("VACUUM INTO ?", (str(copy),))
                copies.append(copy)
            engine.attendance.left("den", "ann")
            engine.attendance.left(user_place("ann"), "ann")
    for copy in copies:
        async with opened(copy, queues=QUEUES) as engine:
            found = await kinds(engine)
            for first, last in ((OCCUPIED, VACATED), (JOINED, LEFT), (ONLINE, OFFLINE)):
                pairs = [kind for kind in found if kind in {first, last}]
                assert pairs == [first, last] * (len(pairs) // 2)


async def test_a_commit_has_an_event_and_its_entries_or_neither(tmp_path: Path) -> None:
    async with opened(tmp_path / "rooms.db", queues=QUEUES) as engine:
        await fill_disk(engine)
        with pytest.raises(EngineUnavailableError):
            await engine.append("den", [draft(1, size=100_000)], KEEP)
        assert await entries(engine, "held") == []
        await fill_disk(engine, is_full=False)
        await engine.append("den", [draft(2)], KEEP)
        [entry] = await entries(engine, "held")
        assert json.loads(bytes(entry.fields))["content"]["n"] == 2


async def test_changes_that_cannot_be_stored_are_stored_later(tmp_path: Path) -> None:
    async with opened(tmp_path / "rooms.db", queues=QUEUES) as engine:
        assert engine.attendance is not None
        await engine.attendance_written()
        connection = engine._writer._connection
        connection.execute("PRAGMA query_only = 1")
        come(engine)
        while not engine._is_storing_refused:
            await trio.sleep(0.001)
        engine.attendance.left("den", "ann")
        engine.attendance.came("attic", "ann", None)
        connection.execute("PRAGMA query_only = 0")
        assert await kinds(engine) == [ONLINE, OCCUPIED, JOINED]


changes = st.lists(st.tuples(st.sampled_from(["den", "attic"]), st.sampled_from(["ann", "bob"])))


@given(changes, st.sets(st.tuples(st.sampled_from(["den", "attic"]), st.sampled_from(["ann", "bob"]))))
def test_what_is_left_of_changes_leads_to_the_same_state(
    toggled: list[tuple[str, str]], present: set[tuple[str, str]]
) -> None:
    def apply(state: set[tuple[str, str]], each: Presence) -> set[tuple[str, str]]:
        return state ^ {(each.place, each.user)}

    state, noted = set(present), []
    for place, user in toggled:
        noted.append(Presence(place, user, (place, user) not in state, msgspec.Raw(b"{}")))
        state = apply(state, noted[-1])
    net = net_changes(noted)
    assert reduce(apply, net, set(present)) == state
    assert len(net) == len(state ^ present)


@pytest.mark.parametrize("is_restored", [False, True])
async def test_a_restored_file_gives_no_number_twice_in_an_epoch(
    tmp_path: Path, *, is_restored: bool
) -> None:
    """Nothing but the outbox has changed since the copy was made."""
    data, witnesses = tmp_path / "data", tmp_path / "witnesses"
    data.mkdir()
    witnesses.mkdir()
    path = data / "rooms.db"
    queues = QUEUES[1:]
    async with opened(path, queues=queues, witnesses=witnesses) as engine:
        come(engine)
        await engine.attendance_written()
    before = {file: file.read_bytes() for file in data.iterdir()}
    async with opened(path, queues=queues, witnesses=witnesses) as engine:
        come(engine)
        first = (await entries(engine, "at once"))[-1]
    if is_restored:
        for file, content in before.items():
            file.write_bytes(content)
    async with opened(path, queues=queues, witnesses=witnesses) as engine:
        come(engine)
        second = (await entries(engine, "at once"))[-1]
    assert first.id != second.id
    assert (first.epoch != second.epoch) == is_restored


async def test_queues_that_are_configured_no_more_get_nothing_more(tmp_path: Path) -> None:
    path, wall = tmp_path / "rooms.db", Wall()
    async with opened(path, wall, queues=QUEUES) as engine:
        come(engine)
        await engine.attendance_written()
        killed = copied(path, "copy.db")
    async with opened(killed, wall) as engine:
        await engine.append("den", [draft(1)], KEEP)
        await engine.attendance_written()
    with connected(killed) as connection:
        assert connection.execute("SELECT count(*) FROM present").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM held").fetchone() == (0,)
    wall.now += 60.0
    # What was written before is still there.
    async with opened(killed, wall, queues=QUEUES) as engine:
        assert await kinds(engine) == [OCCUPIED, JOINED, ONLINE]
        assert await kinds(engine, "held") == [OCCUPIED, JOINED, ONLINE]


async def test_a_file_of_an_earlier_version_gets_the_tables(tmp_path: Path) -> None:
    path = tmp_path / "rooms.db"
    async with opened(path) as engine:
        await engine.append("den", [draft(1)], KEEP)
        before = await engine.position("den")
    with connected(path) as connection:
        for table in ("outbox", "held", "present", "states", "timers", "answers"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute(f"PRAGMA user_version = {BEFORE_OUTBOX}")
    async with opened(path, queues=QUEUES) as engine:
        assert await engine.position("den") == before
        await engine.append("den", [draft(2)], KEEP)
        assert await kinds(engine) == [Kind.MESSAGE]
