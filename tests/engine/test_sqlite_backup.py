"""Copies of a database that is in use, and their return."""

import sqlite3
from contextlib import closing

import pytest
import trio
from click.testing import CliRunner

from broker.cli import main
from broker.engine.sqlite import backup
from broker.engine.sqlite.backup import back_up, restore
from broker.engine.sqlite.location import COMPANIONS
from broker.errors import ConfigurationError
from tests.engine.sqlite_files import KEEP, connected, draft, opened


async def contents(engine, room="den"):
    run = await engine.read(room)
    return run.position, [event.content for event in run.events]


async def test_a_copy_of_a_database_in_use_has_all_that_was_acknowledged(tmp_path):
    path, copy = tmp_path / "rooms.db", tmp_path / "copies" / "monday.db"
    copy.parent.mkdir()
    async with opened(path) as engine:
        await engine.append("den", [draft(1)], KEEP)
        size = await trio.to_thread.run_sync(back_up, path, copy)
        await engine.append("den", [draft(2)], KEEP)
        of_original, _ = await contents(engine)
    assert size == copy.stat().st_size
    assert [file.name for file in copy.parent.iterdir()] == ["monday.db"]
    assert copy.stat().st_mode & 0o777 == 0o600

    restored = tmp_path / "restored.db"
    restore(copy, restored)
    async with opened(restored) as engine:
        position, events = await contents(engine)
    assert (position.offset, events) == (1, [draft(1).content])
    # The same offset will be given to another event.
    assert position.epoch != of_original.epoch


async def test_a_copy_is_of_one_moment_while_appends_go_on(tmp_path):
    path = tmp_path / "rooms.db"
    copies = [tmp_path / f"copy{number}.db" for number in range(5)]
    acknowledged = 0
    bounds = []

    async with opened(path) as engine, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def append():
            nonlocal acknowledged
            while True:
                await engine.append("den", [draft(acknowledged, size=2000)], KEEP)
                acknowledged += 1

        for copy in copies:
            before = acknowledged
            await trio.to_thread.run_sync(back_up, path, copy)
            # One more may be in the file and not acknowledged yet.
            bounds.append((before, acknowledged + 1))
        nursery.cancel_scope.cancel()

    for copy, (least, most) in zip(copies, bounds, strict=True):
        with connected(copy) as connection:
            offsets = [
                offset for (offset,) in connection.execute("SELECT offset FROM events ORDER BY offset")
            ]
        assert offsets == list(range(1, len(offsets) + 1))
        assert least <= len(offsets) <= most


async def test_a_restored_database_replaces_another_with_its_log(tmp_path):
    path, copy = tmp_path / "rooms.db", tmp_path / "copy.db"
    async with opened(path) as engine:
        await engine.append("den", [draft(1)], KEEP)
        await trio.to_thread.run_sync(back_up, path, copy)
        await engine.append("den", [draft(2)], KEEP)
        before, _ = await contents(engine)
        for suffix in COMPANIONS[:2]:
            # As kill -9 leaves it.
            found = path.with_name(path.name + suffix)
            found.with_name("kept" + suffix).write_bytes(found.read_bytes())
    for suffix in COMPANIONS[:2]:
        (tmp_path / ("kept" + suffix)).replace(path.with_name(path.name + suffix))
    with pytest.raises(ConfigurationError, match="exists; --replace"):
        restore(copy, path)
    restore(copy, path, replace=True)
    async with opened(path) as engine:
        position, events = await contents(engine)
        assert (position.offset, events) == (1, [draft(1).content])
        assert position.epoch != before.epoch


async def test_a_database_in_use_is_not_replaced(tmp_path):
    path, copy = tmp_path / "rooms.db", tmp_path / "copy.db"
    async with opened(path) as engine:
        await engine.append("den", [draft(1)], KEEP)
        await trio.to_thread.run_sync(back_up, path, copy)
        with pytest.raises(ConfigurationError, match="in use by another server"):
            restore(copy, path, replace=True)
        await engine.append("den", [draft(2)], KEEP)
        assert (await contents(engine))[0].offset == 2


def make_foreign(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x)")


def make_later(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id = {backup.APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1000")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_foreign, "no database of greenroom"),
        (make_later, "later greenroom"),
        (lambda path: path.write_bytes(b"rubbish" * 1000), "not a database"),
        (lambda path: path.mkdir(), "is no file"),
        (lambda _: None, "is no file"),
    ],
)
def test_what_is_no_copy_is_not_restored(tmp_path, make, reason):
    copy, path = tmp_path / "copy.db", tmp_path / "rooms.db"
    make(copy)
    with pytest.raises(ConfigurationError, match=reason):
        restore(copy, path)
    assert not path.exists()


async def test_a_damaged_copy_is_not_restored_and_the_database_stays(tmp_path):
    path, copy = tmp_path / "rooms.db", tmp_path / "copy.db"
    async with opened(path) as engine:
        await engine.append("den", [draft(n, size=400) for n in range(100)], KEEP)
    back_up(path, copy)
    data = bytearray(copy.read_bytes())
    middle = len(data) // 4096 // 2 * 4096
    data[middle : middle + 3 * 4096] = bytes(3 * 4096)
    copy.write_bytes(data)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=r"damaged|malformed"):
        restore(copy, path, replace=True)
    assert path.read_bytes() == before
    assert not [file for file in tmp_path.iterdir() if "unfinished" in file.name]


async def test_a_database_is_not_copied_to_itself(tmp_path):
    path = tmp_path / "rooms.db"
    async with opened(path):
        pass
    (tmp_path / "link.db").symlink_to(path)
    for copy in (path, tmp_path / "link.db"):
        with pytest.raises(ConfigurationError, match="to itself"):
            back_up(path, copy, replace=True)
    with pytest.raises(ConfigurationError, match="No such file"):
        back_up(path, tmp_path / "no" / "copy.db")


async def test_the_commands(tmp_path):
    path, copy = tmp_path / "rooms.db", tmp_path / "copy.db"
    environ = {"GREENROOM_SERVER__ENGINE": f"sqlite:///{path}"}
    async with opened(path) as engine:
        await engine.append("den", [draft(1)], KEEP)

    def run(*arguments, engine=environ):
        result = CliRunner().invoke(main, arguments, env=engine)
        return result.exit_code, result.output

    assert run("backup", str(copy)) == (0, f"{copy}: {copy.stat().st_size:,} bytes, a copy of {path}\n")
    assert run("backup", str(copy)) == (2, f"greenroom: {copy} exists; --replace replaces it\n")
    assert run("backup", "--replace", str(copy))[0] == 0
    path.unlink()
    assert run("restore", str(copy))[0] == 0
    async with opened(path) as engine:
        assert (await contents(engine))[0].offset == 1
    assert run("backup", str(copy), engine={"GREENROOM_SERVER__ENGINE": "memory://"}) == (
        2,
        "greenroom: server.engine: memory:// keeps no file; only sqlite:// does\n",
    )
