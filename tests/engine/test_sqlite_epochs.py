"""A file that may have gone back in time begins new epochs, one that did not keeps them; nobody misses anything unseen."""

import logging
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.engine.sqlite.engine import SqliteEngine
from broker.engine.sqlite.witness import Witness
from broker.errors import ConfigurationError
from broker.model import Position
from tests.engine.sqlite_files import KEEP, connected, draft, opened

PAIR = ("rooms.db", "rooms.db-wal")


def read_tree(directory: Path) -> dict[str, bytes]:
    """Return all that is in a directory, by name."""
    return {file.name: file.read_bytes() for file in directory.iterdir() if file.is_file()}


@attrs.define(eq=False)
class Disk:
    """A directory with a database, and the witnesses beside it, as they were at some moments."""

    root: Path

    def __attrs_post_init__(self) -> None:
        for directory in (self.directory, self.witnesses):
            directory.mkdir()

    @property
    def directory(self) -> Path:
        return self.root / "data"

    @property
    def witnesses(self) -> Path:
        return self.root / "witnesses"

    @property
    def path(self) -> Path:
        return self.directory / "rooms.db"

    def read(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        return read_tree(self.directory), read_tree(self.witnesses)

    def put_back(self, files: dict[str, bytes], *, directory: Path | None = None, in_place: bool) -> None:
        """Write files as they were, into those of these names or into new ones."""
        for name, content in files.items():
            file = (directory or self.directory) / name
            if not in_place:
                # So that it cannot be given the same number.
                new = file.with_name("new")
                new.touch()
                new.replace(file)
            file.write_bytes(content)

    def be_killed(self, seen: tuple[dict[str, bytes], dict[str, bytes]]) -> None:
        """Be as at a moment at which the server was killed: the files are the same files."""
        files, witnesses = seen
        self.put_back(files, in_place=True)
        for name in self.directory.iterdir():
            if name.name not in files:
                name.unlink()
        self.put_back(witnesses, directory=self.witnesses, in_place=True)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


async def say(engine: SqliteEngine, *numbers: int, room: str = "den") -> Position:
    receipts = await engine.append(room, [draft(number) for number in numbers], KEEP)
    position = receipts[-1].position
    assert position is not None
    return position


@pytest.mark.parametrize("synchronous", ["full", "normal", "off"])
@pytest.mark.parametrize("is_killed", [False, True])
async def test_a_restart_within_a_boot_keeps_the_epochs(disk, synchronous, is_killed):
    async with opened(disk.path, synchronous=synchronous) as engine:
        untouched = await engine.position("attic")
        position = await say(engine, 1, 2)
        seen = disk.read()
    for _ in range(2):
        if is_killed:
            disk.be_killed(seen)
        async with opened(disk.path, synchronous=synchronous) as engine:
            assert await engine.position("den") == position
            assert await engine.position("attic") == untouched
            assert (await engine.read("den")).can_continue(Position(position.epoch, 1))
            position = await say(engine, 3)
            seen = disk.read()


class SeenWitness(Witness):
    """Keeps what a disk holds just before and after a witness is written to: a server may be killed there."""

    def __init__(self, disk: Disk, witness: Witness) -> None:
        super().__init__(None)
        self.disk, self.witness = disk, witness
        self.seen: list[tuple[dict[str, bytes], dict[str, bytes]]] = []

    def note(self, before: int, after: int) -> None:
        self.seen.append(self.disk.read())
        self.witness.note(before, after)
        self.seen.append(self.disk.read())


async def test_a_kill_at_any_step_of_a_commit_keeps_the_epochs_and_what_was_acknowledged(disk):
    async with opened(disk.path) as engine:
        position = await say(engine, 1)
        writer = engine._writer
        writer._witness = seen = SeenWitness(disk, writer._witness)
        await say(engine, 2)
    offsets = []
    assert len(seen.seen) == 4
    for moment in seen.seen:
        disk.be_killed(moment)
        async with opened(disk.path) as engine:
            now = await engine.position("den")
            assert now.epoch == position.epoch
            offsets.append(now.offset)
    assert offsets == [1, 1, 2, 2]


@pytest.mark.parametrize("synchronous", ["full", "normal", "off"])
@pytest.mark.parametrize("is_killed", [False, True])
async def test_another_boot_begins_new_epochs_and_keeps_the_messages(disk, synchronous, is_killed):
    """The machine's disk may be a snapshot of it: all that is on it, the witness too, may have gone back."""
    async with opened(disk.path, synchronous=synchronous, boot="first") as engine:
        empty = await engine.position("attic")
        position = await say(engine, 1, 2)
        seen = disk.read()
    if is_killed:
        disk.be_killed(seen)
    async with opened(disk.path, synchronous=synchronous, boot="second") as engine:
        run = await engine.read("den")
        assert [event.offset for event in run.events] == [1, 2]
        assert not run.can_continue(position)
        assert (await engine.position("attic")).epoch != empty.epoch
        now = await say(engine, 3)
        assert now == Position(run.position.epoch, 3)
    async with opened(disk.path, synchronous=synchronous, boot="second") as engine:
        assert await engine.position("den") == now
    assert len(list(disk.witnesses.iterdir())) == 1


def restored_pair(disk: Disk, files: dict[str, bytes], *, in_place: bool) -> None:
    for file in disk.directory.iterdir():
        if file.name not in files:
            file.unlink()
    disk.put_back({name: content for name, content in files.items() if name in PAIR}, in_place=in_place)


def restored_over_the_rest(disk: Disk, files: dict[str, bytes], *, in_place: bool) -> None:
    disk.put_back({name: content for name, content in files.items() if name in PAIR}, in_place=in_place)


def restored_all(disk: Disk, files: dict[str, bytes], *, in_place: bool) -> None:
    if not in_place:
        shutil.rmtree(disk.directory)
        disk.directory.mkdir()
    disk.put_back(files, in_place=in_place)


def restored_without_log(disk: Disk, files: dict[str, bytes], *, in_place: bool) -> None:
    restored_pair(disk, {"rooms.db": files["rooms.db"]}, in_place=in_place)


def restored_from_sqlite(disk: Disk, files: dict[str, bytes], *, in_place: bool) -> None:
    """As `VACUUM INTO`, or `.backup` and `.restore`, in the shell of SQLite."""
    disk.put_back({f"copy-{name}": content for name, content in files.items() if name in PAIR}, in_place=True)
    with connected(disk.directory / "copy-rooms.db") as copy, connected(disk.path) as present:
        if in_place:
            copy.backup(present)
            return
        copy.execute(f"VACUUM INTO '{disk.directory / 'vacuumed.db'}'")
    for name in PAIR:
        disk.path.with_name(name).unlink(missing_ok=True)
    (disk.directory / "vacuumed.db").rename(disk.path)


RESTORES = [restored_pair, restored_over_the_rest, restored_all, restored_without_log, restored_from_sqlite]


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.parametrize("restore", RESTORES)
async def test_a_restored_copy_begins_new_epochs(
    disk, caplog, restore: Callable[..., None], is_killed, in_place
):
    async with opened(disk.path) as engine:
        await say(engine, 1)
    async with opened(disk.path) as engine:
        kept = await say(engine, 2)
        files, _ = disk.read()
        lost = await say(engine, 3)
        seen = disk.read()
    if is_killed:
        disk.be_killed(seen)
    restore(disk, files, in_place=in_place)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        async with opened(disk.path) as engine:
            position = await engine.position("den")
            assert 1 <= position.offset <= kept.offset
            assert position.epoch != lost.epoch
            for number in range(5):
                now = await say(engine, 10 + number)
            run = await engine.read("den")
            assert not run.can_continue(lost)
            assert not run.can_continue(kept)
    [record] = caplog.records
    assert record.message.startswith("rooms begin new epochs")
    async with opened(disk.path) as engine:
        assert await engine.position("den") == now, "the restored file keeps its own"


async def test_a_copy_beside_the_original_has_epochs_of_its_own_and_leaves_those_of_the_original(disk):
    """Also when nothing was said since: from here on there are two."""
    copy = disk.root / "copies" / "rooms.db"
    copy.parent.mkdir()
    async with opened(disk.path) as engine:
        position = await say(engine, 1)
        for name in PAIR:
            shutil.copy(disk.directory / name, copy.with_name(name))
        async with opened(copy) as other:
            assert (await other.position("den")).epoch != position.epoch
        position = await say(engine, 2)
    async with opened(disk.path) as engine:
        assert await engine.position("den") == position


async def test_a_file_beside_the_log_of_another_time_begins_new_epochs_and_has_whole_histories(disk):
    """SQLite takes such a log for the file's own, and its checks find nothing."""
    found = 0
    for number in range(40):
        pick = random.Random(number)
        rooms = [f"{number} {room}" for room in range(30)]
        async with opened(disk.path) as engine:
            for room in rooms:
                await say(engine, *range(pick.randrange(1, 40)), room=room)
        old, _ = disk.read()
        async with opened(disk.path) as engine:
            for room in pick.sample(rooms, 20):
                await say(engine, *range(100, 100 + pick.randrange(1, 40)), room=room)
        async with opened(disk.path) as engine:
            last = {room: await engine.position(room) for room in rooms}
            for room in pick.sample(rooms, 2):
                last[room] = await say(engine, 200, room=room)
            seen = disk.read()
        disk.be_killed(seen)
        disk.put_back({"rooms.db": old["rooms.db"]}, in_place=True)
        try:
            async with opened(disk.path) as engine:
                for room, position in last.items():
                    run = await engine.read(room)
                    assert not run.can_continue(position)
                    offsets = [event.offset for event in run.events]
                    assert offsets == list(range(run.first_held, run.position.offset + 1))
                found += 1
        except ConfigurationError:
            # It may be seen to be corrupt, too.
            shutil.rmtree(disk.directory)
            disk.directory.mkdir()
    assert found


async def test_where_no_witness_can_be_each_start_begins_new_epochs_and_says_so(disk, caplog):
    nowhere = disk.root / "nowhere"

    async def start() -> Position:
        async with opened(disk.path, witnesses=nowhere) as engine:
            return await say(engine, 1)

    with caplog.at_level(logging.WARNING):
        first, second = await start(), await start()
    assert first.epoch != second.epoch
    assert second.offset == 2
    assert f"{nowhere}: No such file or directory" in caplog.text


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 48, b"x" * 49, None])
async def test_a_witness_that_was_tampered_with_is_none(disk, content):
    async with opened(disk.path) as engine:
        before = await say(engine, 1)
    [witness] = disk.witnesses.iterdir()
    if content is None:
        witness.rename(disk.root / "elsewhere")
        witness.symlink_to(disk.root / "elsewhere")
    else:
        witness.write_bytes(content)
    async with opened(disk.path) as engine:
        now = await engine.position("den")
        assert (now.offset, now.epoch == before.epoch) == (1, False)


@attrs.frozen
class Say:
    room: str
    count: int


@attrs.frozen
class Copy:
    """Copy the files of the running server."""


@attrs.frozen
class Restart:
    """Start again, after a stop or a kill, perhaps with other files; `copy` counts from the latest."""

    is_killed: bool
    boots: bool
    restore: Callable[..., None] | str | None
    copy: int
    in_place: bool


steps = st.lists(
    st.builds(Say, st.sampled_from(["den", "loft", "yard"]), st.integers(1, 4))
    | st.builds(Copy)
    | st.builds(
        Restart,
        st.booleans(),
        st.sampled_from([False, False, False, True]),
        st.sampled_from([None, None, "rooms.db", "rooms.db-wal", *RESTORES]),
        st.integers(0, 3),
        st.booleans(),
    ),
    min_size=3,
    max_size=14,
)


@attrs.define(eq=False)
class World:
    """A file through all that happens to it, and every position that a client was ever told there."""

    disk: Disk
    told: dict[tuple[str, Position], bytes] = attrs.Factory(dict)
    """What was said there, by room and position."""
    latest: dict[str, Position] = attrs.Factory(dict)
    copies: list[dict[str, bytes]] = attrs.Factory(list)
    said: int = 0
    boot: int = 0

    async def live(self, steps: list[Say | Copy]) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Be a server; return what was on the disk when it could have been killed."""
        async with opened(self.disk.path, boot=f"{self.boot}") as engine:
            await self.check(engine)
            for step in steps:
                if isinstance(step, Copy):
                    self.copies.append(self.disk.read()[0])
                    continue
                numbers = range(self.said, self.said + step.count)
                self.said += step.count
                for receipt in await engine.append(step.room, [draft(n) for n in numbers], KEEP):
                    assert receipt.position is not None
                    assert receipt.event is not None
                    assert (step.room, receipt.position) not in self.told, "one position for two events"
                    self.told[step.room, receipt.position] = receipt.event.content
                    self.latest[step.room] = receipt.position
            await self.check(engine)
            return self.disk.read()

    async def check(self, engine: SqliteEngine) -> None:
        """A client that returns with a position gets all later events, or learns that some are missing."""
        runs = {room: await engine.read(room) for room in ("den", "loft", "yard")}
        for run in runs.values():
            assert [event.offset for event in run.events] == list(
                range(run.first_held, run.position.offset + 1)
            )
        for (room, since), content in self.told.items():
            run = runs[room]
            if run.can_continue(since) and since.offset >= run.first_held:
                assert run.events[since.offset - run.first_held].content == content

    async def restart(self, step: Restart, seen: tuple[dict[str, bytes], dict[str, bytes]]) -> bool:
        """Do to the files what happens between two lives; return whether the epochs must be kept."""
        if step.is_killed:
            self.disk.be_killed(seen)
        self.boot += step.boots
        if step.restore is None or not self.copies:
            return not step.boots
        files = self.copies[-1 - step.copy % len(self.copies)]
        if isinstance(step.restore, str):
            self.disk.put_back({step.restore: files[step.restore]}, in_place=step.in_place)
        else:
            step.restore(self.disk, files, in_place=step.in_place)
        return False

    async def end(self) -> None:
        async with opened(self.disk.path, boot=f"{self.boot}") as engine:
            await self.check(engine)


async def go_through(world: World, steps: list[Say | Copy | Restart]) -> None:
    while steps:
        count = next((n for n, step in enumerate(steps) if isinstance(step, Restart)), len(steps))
        seen = await world.live([step for step in steps[:count] if not isinstance(step, Restart)])
        if count < len(steps):
            restart = steps[count]
            assert isinstance(restart, Restart)
            is_kept = await world.restart(restart, seen)
            if is_kept:
                async with opened(world.disk.path, boot=f"{world.boot}") as engine:
                    for room, position in world.latest.items():
                        assert await engine.position(room) == position
            try:
                await world.end()
            except ConfigurationError:
                # A part of a file may be none; then nobody is told anything.
                assert isinstance(restart.restore, str)
                return
            if not is_kept:
                world.latest.clear()
        steps = steps[count + 1 :]


@settings(max_examples=100, deadline=None)
@given(steps)
def test_a_returning_client_gets_all_later_events_or_learns_that_some_are_missing(steps):
    with TemporaryDirectory() as directory:
        trio.run(go_through, World(Disk(Path(directory))), steps)
