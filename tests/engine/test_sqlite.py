"""The durable engine under restarts, a full disk, cancellation, and events that it cannot store."""

import pytest
import trio
import trio.testing

from broker.engine.base import Retention
from broker.engine.sqlite.engine import SqliteEngine
from broker.engine.sqlite.rows import MORE_FORGOTTEN
from broker.errors import EngineUnavailableError
from broker.model import Draft, IdempotencyKey, Position
from tests.engine.sqlite_files import KEEP, Wall, connected, draft, fill_disk, opened


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


async def test_a_full_disk_is_unavailable_and_heals(tmp_path):
    async with opened(tmp_path / "rooms.db") as engine:
        await engine.append("den", [draft(1)], KEEP)
        await fill_disk(engine)
        with pytest.raises(EngineUnavailableError, match="full"):
            await engine.append("den", [draft(2, "k", size=100_000)], KEEP)
        with pytest.raises(EngineUnavailableError, match="full"):
            await engine.wait_ready()
        assert [event.offset for event in (await engine.read("den")).events] == [1]
        await fill_disk(engine, is_full=False)
        await engine.wait_ready()
        receipts = await engine.append("den", [draft(2, "k", size=100_000)], KEEP)
        assert receipts[0].position.offset == 2


async def test_reads_and_ephemeral_events_work_on_a_full_disk(tmp_path):
    path = tmp_path / "rooms.db"
    async with opened(path) as engine:
        [stored] = await engine.append("den", [draft(1)], KEEP)
        await fill_disk(engine)
        commits = engine.statistics().commits
        assert await engine.position("den") == stored.position
        # Also of a room that nobody has ever been in, and many of them.
        new = {f"room {number}": await engine.position(f"room {number}") for number in range(50)}
        assert (await engine.read("room 1")).position == new["room 1"]
        whisper = Draft(b"{}", ephemeral=True)
        receipts = await engine.append("room 1", [whisper, whisper], KEEP)
        assert [(receipt.position, receipt.event.offset) for receipt in receipts] == [(None, None)] * 2
        assert engine.statistics().commits == commits
        with connected(path) as connection:
            assert connection.execute("SELECT name FROM rooms").fetchall() == [("den",)]
        # What was told then still holds, whoever asks and however often the server starts.
        await fill_disk(engine, is_full=False)
        [receipt] = await engine.append("room 1", [draft(1)], KEEP)
        assert receipt.position == Position(new["room 1"].epoch, 1)
    async with opened(path) as engine:
        assert (await engine.read("room 1")).can_continue(new["room 1"])
        assert await engine.position("room 2") == new["room 2"]


async def test_events_of_silent_rooms_leave_the_file(tmp_path):
    wall = Wall()
    async with opened(tmp_path / "rooms.db", wall) as engine:
        first = await engine.append("den", [draft(1)], Retention(10, 1 << 20, 60.0))
        wall.now += 61
        await engine.append("another", [draft(1)], KEEP)
        with connected(tmp_path / "rooms.db") as connection:
            assert connection.execute("SELECT count(*) FROM events").fetchone() == (1,)
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


async def test_an_append_that_cannot_be_written_fails_alone(tmp_path):
    """With any cause; the other appends of its transaction are stored."""
    outcomes = {}

    async def append(engine: SqliteEngine, room: str, key: str) -> None:
        try:
            [receipt] = await engine.append(room, [draft(1, key)], KEEP)
            outcomes[room] = receipt.position.offset
        except EngineUnavailableError:
            outcomes[room] = None

    async with opened(tmp_path / "rooms.db") as engine:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                key = "a lone surrogate: \ud800" if number == 13 else "k"
                nursery.start_soon(append, engine, f"room {number}", key)
        assert outcomes == {f"room {number}": None if number == 13 else 1 for number in range(20)}
        await engine.wait_ready()
        for number in range(20):
            assert len((await engine.read(f"room {number}")).events) == (number != 13)


async def test_closing_stores_waiting_appends_and_refuses_later_ones(tmp_path):
    offsets = []

    async def append(number: int) -> None:
        [receipt] = await engine.append("den", [draft(number)], KEEP)
        offsets.append(receipt.position.offset)

    async with trio.open_nursery() as nursery, opened(tmp_path / "rooms.db") as engine:
        for number in range(2500):
            nursery.start_soon(append, number)
        await trio.testing.wait_all_tasks_blocked()
    assert sorted(offsets) == list(range(1, 2501))
    with pytest.raises(EngineUnavailableError, match="closed"):
        await engine.append("den", [draft(1)], KEEP)


async def test_nobody_waits_for_ever_for_an_engine_that_is_cancelled(tmp_path):
    """Appends of tasks outside the cancelled scope: stored, or told that they are not."""
    outcomes = []

    async def append(number: int) -> None:
        try:
            outcomes.append(await engine.append("den", [draft(number, f"{number}")], KEEP))
        except EngineUnavailableError:
            outcomes.append(None)

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with opened(tmp_path / "rooms.db") as engine:
                for number in range(2500):
                    nursery.start_soon(append, number)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
                await trio.lowlevel.checkpoint()
    assert len(outcomes) == 2500
    async with opened(tmp_path / "rooms.db") as engine:
        assert (await engine.position("den")).offset == sum(outcome is not None for outcome in outcomes)


async def test_an_append_cancelled_during_its_commit_takes_nobody_along(tmp_path):
    async with opened(tmp_path / "rooms.db") as engine:
        receipts = []

        async def append(key: str) -> None:
            receipts.append(await engine.append("den", [draft(1, key)], KEEP))

        with connected(tmp_path / "rooms.db") as other:
            # The commit has to wait for as long as somebody else writes.
            other.execute("BEGIN IMMEDIATE")
            async with trio.open_nursery() as nursery:
                with trio.CancelScope() as scope:
                    nursery.start_soon(append, "b")
                    async with trio.open_nursery() as cancelled:
                        cancelled.start_soon(append, "a")
                        await trio.testing.wait_all_tasks_blocked()
                        scope.cancel()
                other.execute("ROLLBACK")
        assert len(receipts) == 1
        [again] = await engine.append("den", [draft(1, "a")], KEEP)
        assert again.event is None
        assert (await engine.position("den")).offset == 2


async def test_a_clock_that_goes_back_takes_nothing_along(tmp_path):
    wall = Wall()
    async with opened(tmp_path / "rooms.db", wall) as engine:
        [first] = await engine.append("den", [draft(1, "a")], Retention(1000, 1 << 20, 600.0))
        wall.now -= 3600
        await engine.append("den", [draft(2, "b")], Retention(1000, 1 << 20, 600.0))
        wall.now += 599
        run = await engine.read("den")
        assert [event.offset for event in run.events] == [1, 2]
        assert run.can_continue(Position(run.position.epoch, 0))
        [again] = await engine.append("den", [draft(1, "a")], Retention(1000, 1 << 20, 600.0))
        assert again.position == first.position


async def test_expired_rows_are_all_deleted_in_small_steps(tmp_path):
    wall = Wall()
    rooms = 40
    keep = Retention(1000, 1 << 20, 60.0)
    keys = 5 * MORE_FORGOTTEN
    async with opened(tmp_path / "rooms.db", wall) as engine:
        async with trio.open_nursery() as nursery:
            for number in range(rooms):
                drafts = [draft(n, f"{n}") for n in range(keys // rooms)]
                nursery.start_soon(engine.append, f"room {number}", drafts, keep)
        wall.now += 301
        with connected(tmp_path / "rooms.db") as connection:
            counts = []
            while not counts or counts[-1][0]:
                await engine.append("den", [draft(1)], keep)
                counts.append(connection.execute("SELECT count(*) FROM keys").fetchone())
            assert len(counts) == 5
            # Those of the new room are young.
            assert connection.execute("SELECT count(DISTINCT room) FROM events").fetchone() == (1,)


def count_rows(path, table):
    with connected(path) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


async def test_rooms_that_hold_nothing_any_more_leave_the_file(tmp_path):
    wall, path = Wall(), tmp_path / "rooms.db"
    ephemeral = Draft(b"{}", ephemeral=True, key=IdempotencyKey("ann", "e"))
    async with opened(path, wall) as engine:
        for number in range(100):
            await engine.position(f"joined {number}")
            await engine.append(f"kept {number}", [draft(1, "k")], Retention(10, 1 << 20, 600.0))
            await engine.append(f"not kept {number}", [draft(1, "k")], Retention(0, 1 << 20, 600.0))
            await engine.append(f"ephemeral {number}", [ephemeral], KEEP)
            await engine.append(f"joined {number}", [Draft(b"{}", ephemeral=True)], KEEP)
        assert count_rows(path, "rooms") == 300
        rows = []
        for seconds in (301, 300, 300):
            wall.now += seconds
            await engine.append("den", [draft(1)], KEEP)
            rows.append(count_rows(path, "rooms") - 1)
        # Those with nothing but keys, those with a position only, and those whose events ran out first.
        assert rows == [200, 100, 0]
        assert count_rows(path, "keys") == 0
        assert count_rows(path, "events") == 3
        assert count_rows(path, "forgotten") <= 200


async def test_the_epoch_of_a_room_that_left_the_file_never_comes_back(tmp_path):
    wall, path = Wall(), tmp_path / "rooms.db"
    keep = Retention(10, 1 << 20, 60.0)
    epochs, untouched = [], None
    for _ in range(3):
        async with opened(path, wall) as engine:
            epoch = (await engine.position("den")).epoch
            [receipt] = await engine.append("den", [draft(1, "k")], keep)
            assert receipt.position == Position(epoch, 1)
            assert receipt.event is not None
            epochs.append(epoch)
            assert untouched in {None, await engine.position("attic")}
            untouched = await engine.position("attic")
            for seconds in (61, 301, 301):
                wall.now += seconds
                await engine.append("another", [draft(1)], keep)
            assert await engine.position("den") not in {Position(each, 0) for each in epochs}
    assert len(set(epochs)) == 3


async def test_a_number_given_again_brings_no_keys_of_the_room_before(tmp_path):
    """Keys may be left if the window was made shorter meanwhile."""
    wall, path = Wall(), tmp_path / "rooms.db"
    async with opened(path, wall, idempotency_seconds=3600.0) as engine:
        await engine.append("elsewhere", [draft(1)], KEEP)
        await engine.append("den", [draft(1, "k")], Retention(10, 1 << 20, 10.0))
    async with opened(path, wall, idempotency_seconds=5.0) as engine:
        for _ in range(2):
            wall.now += 11
            await engine.append("elsewhere", [draft(1)], KEEP)
        for number in range(3):
            [receipt] = await engine.append(f"room {number}", [draft(1, "k")], KEEP)
            assert receipt.event is not None


async def test_the_file_becomes_smaller_when_much_was_forgotten(tmp_path):
    wall, path = Wall(), tmp_path / "rooms.db"
    keep = Retention(1000, 1 << 30, 60.0)

    async def grow(engine):
        for number in range(60):
            await engine.append(f"room {number}", [draft(n, size=4000) for n in range(50)], keep)
        with connected(path) as connection:
            return connection.execute("PRAGMA page_count").fetchone()[0]

    async with opened(path, wall) as engine:
        grown = await grow(engine)
        wall.now += 61
        for _ in range(30):
            await engine.append("den", [draft(1)], keep)
        with connected(path) as connection:
            assert connection.execute("PRAGMA page_count").fetchone()[0] < grown / 2
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert await grow(engine) <= grown + 10, "and is no larger than before when it fills again"
