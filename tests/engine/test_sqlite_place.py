"""One file, one name, one server: by whatever way else the file is reached, nothing acknowledged may be lost by it."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.engine.sqlite.location import COMPANIONS, check_path
from broker.errors import ConfigurationError, EngineUnavailableError
from tests.engine.sqlite_files import KEEP, draft, opened
from tests.support.secrets import API_KEY, SECRET

SAFETY_SECONDS = 120
ENVIRON = {"GREENROOM_SECRET": SECRET, "GREENROOM_API_KEY": API_KEY}


def greenroom(*arguments: object, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run the program to its end; with `before`, a shell's words, in a mount namespace of its own after them."""
    command = [sys.executable, "-m", "broker", *map(str, arguments)]
    if before:
        command = ["unshare", "--mount", "sh", "-c", f'set -e; {before}; exec "$@"', "sh", *command]
    return subprocess.run(
        command,
        env={**os.environ, **ENVIRON},
        timeout=SAFETY_SECONDS,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def mount() -> None:
    """Skip unless files can be mounted here."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not there (util-linux)")
    probe = subprocess.run(
        ["unshare", "--mount", "sh", "-c", "mount --bind /etc /etc"],
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode:
        pytest.skip(f"nothing can be mounted here: {probe.stderr.strip()}")


async def make(path: Path) -> None:
    async with opened(path) as engine:
        await engine.append("den", [draft(1)], KEEP)


def link(original: Path, other: Path) -> None:
    other.hardlink_to(original)


def point(original: Path, other: Path) -> None:
    other.unlink()
    other.symlink_to(original)


def directory(_original: Path, other: Path) -> None:
    other.unlink()
    other.mkdir()


async def test_a_file_with_two_names_is_refused_by_each_of_them(tmp_path):
    names = [tmp_path / "rooms.db", tmp_path / "other" / "rooms.db"]
    names[1].parent.mkdir()
    await make(names[0])
    names[1].hardlink_to(names[0])
    for name in names:
        with pytest.raises(ConfigurationError, match="2 names"):
            async with opened(name):
                pass
    names[0].unlink()
    async with opened(names[1]) as engine:
        assert (await engine.position("den")).offset == 1


@pytest.mark.parametrize("ending", COMPANIONS)
@pytest.mark.parametrize("mislead", [link, point, directory])
async def test_files_beside_it_that_belong_elsewhere_are_refused(
    tmp_path, ending: str, mislead: Callable[[Path, Path], None]
):
    path, elsewhere = tmp_path / "rooms.db", tmp_path / "elsewhere"
    await make(path)
    beside = path.with_name(path.name + ending)
    beside.unlink(missing_ok=True)
    elsewhere.touch()
    if mislead is not link:
        beside.touch()
    mislead(elsewhere, beside)
    with pytest.raises(ConfigurationError, match=f"{beside.name} (has 2 names|is no regular file)"):
        async with opened(path):
            pass


async def test_symbolic_links_lead_to_the_file_with_all_that_is_beside_it(tmp_path):
    path, first, second = (tmp_path / name / "rooms.db" for name in ("real", "first", "second"))
    for each in (path, first):
        each.parent.mkdir()
    first.symlink_to(path)
    second.parent.symlink_to(first.parent)
    async with opened(second) as engine:
        await engine.append("den", [draft(1)], KEEP)
        assert path.with_name("rooms.db-wal").exists()
        for name in (path, first):
            with pytest.raises(ConfigurationError, match="in use"):
                async with opened(name):
                    pass
    assert [each.name for each in first.parent.iterdir()] == ["rooms.db"]


async def test_a_file_that_was_renamed_while_it_is_used_is_still_in_use(tmp_path):
    """Its lock is on the file itself, too; and a server that is refused takes nothing from the one that has it."""
    path, renamed = tmp_path / "rooms.db", tmp_path / "renamed.db"
    async with opened(path) as engine:
        await engine.append("den", [draft(1)], KEEP)
        path.rename(renamed)
        with pytest.raises(ConfigurationError, match="in use"):
            async with opened(renamed):
                pass
        assert is_held_by_sqlite(renamed)
        assert "in use" in greenroom("serve", "--port", "0", "--engine", f"sqlite:///{renamed}").stderr
        renamed.rename(path)
        await engine.append("den", [draft(2)], KEEP)
    async with opened(path) as engine:
        assert (await engine.position("den")).offset == 2


def is_held_by_sqlite(path: Path) -> bool:
    """Ask in another process, as SQLite's own locks hold between processes only."""
    asked = [sys.executable, "-c", LOCK_AS_SQLITE, str(path)]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip() == "held"


LOCK_AS_SQLITE = f"""
import fcntl, sys
SHARED_FIRST, SHARED_SIZE = 0x40000002, 510
try:
    fcntl.lockf(open(sys.argv[1], "r+b"), {fcntl.LOCK_EX | fcntl.LOCK_NB}, SHARED_SIZE, SHARED_FIRST)
except BlockingIOError:
    print("held")
"""


async def test_a_lock_file_that_was_removed_lets_no_second_server_in(tmp_path):
    path = tmp_path / "rooms.db"
    async with opened(path):
        path.with_name("rooms.db-lock").unlink()
        with pytest.raises(ConfigurationError, match="in use"):
            async with opened(path):
                pass


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_nothing_is_stored_in_a_log_that_was_taken_away(tmp_path, is_replaced):
    path = tmp_path / "rooms.db"
    log, elsewhere = path.with_name("rooms.db-wal"), tmp_path / "elsewhere"
    async with opened(path) as engine:
        await engine.append("den", [draft(1)], KEEP)
        log.rename(elsewhere)
        if is_replaced:
            log.touch()
        with pytest.raises(EngineUnavailableError, match="removed or replaced"):
            await engine.append("den", [draft(2)], KEEP)
        elsewhere.rename(log)
        [receipt] = await engine.append("den", [draft(2)], KEEP)
        assert receipt.position.offset == 2


@pytest.mark.usefixtures("mount")
@pytest.mark.parametrize("ending", ["", "-wal", "-lock"])
async def test_a_file_that_is_mounted_by_itself_is_refused_and_its_directory_named(tmp_path, ending):
    """As `docker run -v ./rooms.db:/data/rooms.db` does."""
    place = tmp_path / "a b \\ ü"
    place.mkdir()
    await make(place / "rooms.db")
    mounted, original, link = place / f"rooms.db{ending}", tmp_path / "original", tmp_path / "link.db"
    mounted.touch()
    original.touch()
    link.symlink_to(place / "rooms.db")
    config = tmp_path / "greenroom.toml"
    config.write_text(f"[server]\nengine = 'sqlite:///{link}'\n")
    for arguments in (
        ("serve", "--port", "0", "--engine", f"sqlite:///{place / 'rooms.db'}"),
        ("config", "check", config),
    ):
        done = greenroom(*arguments, before=f"mount --bind '{original}' '{mounted}'")
        assert done.returncode == 2
        assert f"{mounted} is mounted by itself" in done.stderr
        assert f"mount the directory, {place}" in done.stderr
    assert greenroom("config", "check", config).returncode == 0


@pytest.mark.usefixtures("mount")
async def test_a_mounted_directory_is_the_same_directory(tmp_path):
    """Its lock is seen by both ways, and a server may use it by either."""
    path, other = tmp_path / "data" / "rooms.db", tmp_path / "other"
    path.parent.mkdir()
    other.mkdir()
    before = f"mount --bind '{path.parent}' '{other}'"
    config = tmp_path / "greenroom.toml"
    config.write_text(f"[server]\nengine = 'sqlite:///{other / 'rooms.db'}'\n")
    async with opened(path) as engine:
        await engine.append("den", [draft(1)], KEEP)
        done = greenroom("serve", "--port", "0", "--config", config, before=before)
        assert (done.returncode, "in use by another server" in done.stderr) == (2, True)
    assert greenroom("config", "check", config, before=before).returncode == 0


def test_a_path_without_a_file_is_accepted(tmp_path):
    assert check_path(tmp_path / "rooms.db") == tmp_path.resolve() / "rooms.db"
    assert list(tmp_path.iterdir()) == []


async def test_new_files_are_for_their_owner_alone_and_those_that_are_there_keep_their_mode(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rooms.db"
    before = os.umask(0o022)
    try:
        for mode in (0o600, 0o640):
            async with opened(path) as engine:
                await engine.append("den", [draft(1)], KEEP)
                files = [path, *(path.with_name(path.name + suffix) for suffix in COMPANIONS)]
                modes = {file.name: oct(file.stat().st_mode & 0o777) for file in files if file.exists()}
            assert len(modes) == 4
            assert {oct(mode)} == {modes[name] for name in modes if not name.endswith("-lock")}
            assert modes["rooms.db-lock"] == oct(0o600)
            path.chmod(0o640)
    finally:
        os.umask(before)
