"""`greenroom serve --reload`: the code of rooms changes under a server that goes on serving."""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner

from broker.cli import main
from broker.cli.code_files import CodeFiles, changed_files, import_report, read_files
from broker.errors import ConfigurationError
from broker.room_actors.classes import import_rooms
from tests.support.patience import PATIENCE_SECONDS
from tests.support.programs import read_until, running
from tests.support.secrets import API_KEY, ENVIRON, SECRET

GAME = """
import msgspec
from broker.room_actors import Member, RoomActor, call
from parts.rules import VERSION

class Score(msgspec.Struct):
    points: int = 0

class Game(RoomActor[Score], pattern="game.*"):
    @call
    async def hit(self, sender: Member | None) -> list[int]:
        self.state.points += 1
        self.set_timer("bell", 3600)
        return [VERSION, self.state.points]
"""


@pytest.mark.slow
def test_good_changes_are_served_and_bad_ones_are_told(tmp_path: Path) -> None:
    (tmp_path / "game.py").write_text(GAME)
    rules = tmp_path / "parts" / "rules.py"
    rules.parent.mkdir()
    rules.write_text("VERSION = 1\n")
    command = "exec greenroom serve --dev --dev-secrets - --reload --rooms game:Game --port 0 --engine sqlite:///rooms.db"
    environ = {"GREENROOM_SECRET": SECRET, "GREENROOM_API_KEY": API_KEY}
    with running(command, tmp_path, **environ) as (url, process):

        def hit() -> list[int]:
            headers = {"Authorization": f"Bearer {API_KEY}"}
            posted = httpx2.post(
                f"{url}/api/rooms/game.1/calls/hit", headers=headers, timeout=PATIENCE_SECONDS
            )
            found: list[int] = posted.json()["data"]
            return found

        assert hit() == [1, 1]
        rules.write_text("from parts.more.deep import VERSION\n")
        told = read_until(process, re.compile(rb"No module named .parts.more.(.|\n)*code not reloaded"))
        assert told.string.count(b"Traceback") == 1
        assert hit() == [1, 2]
        # The file that is missing is in a folder that is not there yet.
        deep = tmp_path / "parts" / "more" / "deep.py"
        deep.parent.mkdir()
        deep.write_text("VERSION = 2\n")
        rules.touch()
        read_until(process, re.compile(rb'code reloads(.|\n)*"stopped"'))
        # Nobody accepts connections now, and none is refused.
        assert hit() == [2, 3]
        shown = CliRunner().invoke(main, ["rooms", "show", "game.1", "--url", url], env=environ)
        code = json.loads(shown.stdout)["code"]
        assert (code["state"]["value"], code["timers"][0]["name"]) == ({"points": 3}, "bell")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 0
        with pytest.raises(httpx2.ConnectError):
            hit()


def test_code_that_a_server_cannot_import_is_told_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, code, told in (
        ("faulty_value", "LIMIT = 1\nLIMIT = int('abc')\n", "ValueError: invalid literal for int()"),
        ("faulty_syntax", "x = 1\nx = = 1\n", "SyntaxError: invalid syntax"),
    ):
        (tmp_path / f"{name}.py").write_text(code)
        result = CliRunner().invoke(main, ["serve", "--rooms", name], env=ENVIRON)
        assert result.exit_code == 2
        assert f'{name}.py", line 2' in result.output
        assert f"--rooms: {name} cannot be imported: {told}" in result.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--reload", "--rooms", "game"], "--reload: only with --dev and --rooms"),
        (["--reload", "--dev"], "--reload: only with --dev and --rooms"),
        (["--reload", "--dev", "--rooms", "game", "--workers", "2", "--engine", "redis://h"], "no --workers"),
    ],
)
def test_it_is_refused_where_it_cannot_be(arguments: list[str], told: str) -> None:
    nowhere = ["--dev-secrets", "-"] if "--dev" in arguments else []
    result = CliRunner().invoke(main, ["serve", *nowhere, *arguments], env=ENVIRON)
    assert result.exit_code == 2
    assert told in result.output


def test_a_change_is_told_once_when_all_files_are_at_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.py").write_text("")
    files = CodeFiles("one")
    assert [files.look(), files.look()] == [None, None]
    for number in range(3):
        (tmp_path / f"new{number}.py").write_text("")
        (tmp_path / "one.py").write_text("x" * number)
        (tmp_path / "notes.txt").write_text("x" * number)
        assert files.look() is None
    names = ["new0.py", "new1.py", "new2.py", "one.py"]
    assert files.look() == [str(tmp_path / name) for name in names]
    assert files.look() is None
    (tmp_path / "one.py").unlink()
    assert [files.look(), files.look()] == [None, [str(tmp_path / "one.py")]]
    (tmp_path / "notes.txt").unlink()
    assert [files.look(), files.look()] == [None, None]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import sys\nsys.exit(0)\n", "SystemExit: 0"),
        ("x = 1\nundefined\n", 'faulty.py", line 2, in <module>'),
        ("x = = 1\n", "SyntaxError"),
        ("import nowhere.at.all\n", "No module named 'nowhere'"),
        ("x = 1\n", "--rooms: faulty has no RoomActor with a pattern"),
        ("class Empty:\n    pass\n", "--rooms: faulty has no RoomActor with a pattern"),
    ],
)
def test_code_that_cannot_be_imported_is_told_by_its_own_frames(
    code: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "faulty", raising=False)
    (tmp_path / "faulty.py").write_text(code)
    with pytest.raises(ConfigurationError) as raised:
        import_rooms("faulty")
    report = import_report(raised.value)
    assert told in report
    assert "classes.py" not in report
    assert "importlib" not in report


def test_a_file_that_keeps_its_size_has_changed_by_its_time(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("a")
    before = read_files([tmp_path, tmp_path / "missing"])
    os.utime(tmp_path / "one.py", (time.time() + 5, time.time() + 5))
    assert changed_files(before, read_files([tmp_path])) == [str(tmp_path / "one.py")]
