"""Each recipe of docs/testing.md and docs/rooms.md runs as a reader would paste it, and the running broker ends as it should."""

import re
import subprocess
import sys
import threading
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from broker.config.settings import ServerSettings, Settings
from broker.errors import ConfigurationError
from broker.testing import running_broker

ROOT = Path(__file__).parents[2]
SAFETY_SECONDS = 300


@pytest.mark.parametrize(("document", "recipes", "tests"), [("testing.md", 5, 5), ("rooms.md", 2, 1)])
def test_each_recipe_runs(tmp_path, document, recipes, tests):
    text = (ROOT / "docs" / document).read_text()
    files = dict(re.findall(r"^```python file=(\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert len(files) == text.count("```python") == recipes
    for name, code in files.items():
        (tmp_path / name).write_text(code)
    done = subprocess.run(
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
            tmp_path,
            tmp_path,
        ],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=SAFETY_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{tests} passed" in done.stdout


def test_a_broker_is_gone_with_its_block():
    threads = threading.active_count()
    with running_broker() as broker, running_broker() as other:
        assert urlopen(f"{broker.url}/ready", timeout=SAFETY_SECONDS).status == 200
        assert broker.url != other.url
        assert broker.secret != other.secret
        assert broker.secret not in repr(broker)
    with pytest.raises(URLError):
        urlopen(f"{broker.url}/ready", timeout=SAFETY_SECONDS)
    assert threading.active_count() <= threads + 1  # trio keeps a thread for later use


def test_a_broker_that_cannot_be_opened_says_why():
    with (
        pytest.raises(ConfigurationError, match="tape://"),
        running_broker(Settings(server=ServerSettings(engine="tape://"))),
    ):
        pytest.fail("it was opened")
