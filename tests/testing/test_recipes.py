"""Each recipe of docs/testing.md and docs/rooms.md runs as a reader would paste it, and the running broker ends as it should."""

import re
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from broker.config.settings import ServerSettings, Settings
from broker.errors import ConfigurationError
from broker.testing import running_broker

ROOT = Path(__file__).parents[2]
SAFETY_SECONDS = 300


@pytest.mark.parametrize(("document", "recipes", "tests"), [("testing.md", 8, 9), ("rooms.md", 3, 1)])
def test_each_recipe_runs(tmp_path, document, recipes, tests):
    text = (ROOT / "docs" / document).read_text()
    files = dict(re.findall(r"^```python file=(\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert len(files) == text.count("```python") == recipes
    # As older tests name it: beside the entry point it does no harm.
    files.setdefault("conftest.py", 'pytest_plugins = ["broker.testing.plugin"]')
    for name, code in files.items():
        (tmp_path / name).write_text(code)
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{tests} passed" in done.stdout


def run_pytest(folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run the tests in a folder, where Greenroom is as if it were installed: with the entry points of pyproject.toml."""
    site = folder / "site"
    (site / "greenroom-0.dist-info").mkdir(parents=True)
    entry_points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    lines = "".join(f"{name} = {place}\n" for name, place in entry_points.items())
    (site / "greenroom-0.dist-info" / "entry_points.txt").write_text(f"[pytest11]\n{lines}")
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-W",
            "error",
            "--rootdir",
            folder,
            folder,
        ],
        cwd=folder,
        env={"PYTHONPATH": f"{site}:{ROOT}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=SAFETY_SECONDS,
        check=False,
    )


WAYS = """
import asyncio
import json
import sys
from importlib import import_module
from urllib.request import Request, urlopen

import pytest
from trio.testing import MockClock

EARLY = {name for name in sys.modules if name.split(".")[0] in {"broker", "actors", "msgspec"}}


@pytest.fixture
def greenroom_rooms():
    from game import Game

    return [Game]


async def play(world):
    ann = await world.join("game.1", user="ann")
    await world.call("game.1", "ask", ["1 + 1?", 2])
    await world.pass_time(31)
    assert ann.heard[-1]["type"] == "nobody"


@pytest.mark.trio
async def test_with_trio(greenroom_world):
    await play(greenroom_world)


@pytest.mark.trio
async def test_with_trio_and_a_clock_of_its_own(greenroom_world, autojump_clock):
    began = autojump_clock.current_time()
    await play(greenroom_world)
    assert autojump_clock.current_time() >= began + 31


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio", ("trio", {"clock": MockClock(autojump_threshold=0)})])
async def test_with_anyio(greenroom_world, anyio_backend):
    await play(greenroom_world)


def test_with_asyncio_alone(greenroom_world):
    asyncio.run(play(greenroom_world))


def test_over_a_port(greenroom):
    headers = {"Authorization": f"Bearer {greenroom.api_key}", "Content-Type": "application/json"}
    asked = Request(f"{greenroom.url}/api/rooms/game.1/calls/ask", b'{"data": ["1 + 1?", 2]}', headers)
    with urlopen(asked, timeout=60) as answer:
        assert json.load(answer) == {"data": None}


def test_nothing_of_the_broker_was_imported_before(pytestconfig):
    assert not EARLY
    assert pytestconfig.pluginmanager.get_plugin("greenroom") is import_module("_greenroom_pytest")
"""


def test_the_fixture_is_for_each_loop(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "rooms.md").read_text()
    [game] = re.findall(r"^```python file=game.py\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "game.py").write_text(game)
    (tmp_path / "test_ways.py").write_text(WAYS)
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout


def test_a_broker_is_gone_with_its_block():
    threads = threading.active_count()
    with running_broker() as broker, running_broker() as other:
        assert urlopen(f"{broker.url}/ready", timeout=SAFETY_SECONDS).status == 200
        assert broker.url != other.url
        assert broker.secret != other.secret
        assert broker.secret not in repr(broker)
    with pytest.raises(URLError):
        urlopen(f"{broker.url}/ready", timeout=SAFETY_SECONDS)
    assert threading.active_count() <= threads + 2  # trio keeps those that were busy at a time


def test_a_broker_that_cannot_be_opened_says_why():
    with (
        pytest.raises(ConfigurationError, match="tape://"),
        running_broker(Settings(server=ServerSettings(engine="tape://"))),
    ):
        pytest.fail("it was opened")
