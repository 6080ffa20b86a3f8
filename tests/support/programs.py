"""Programs of a reader of the README, each started by the command that a text gives for it."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
COMMANDS = dict(
    re.findall(
        r"^\| [^|]*\]\((\w+)\.\w+\)[^|]*\| `([^`]+)` \|", (EXAMPLES / "README.md").read_text(), re.MULTILINE
    )
)
"""The command of each example, by the name of its file, as its README has them."""

_PORT = re.compile(rb"http://127\.0\.0\.1:(\d+)|\bport: (\d+)")


def environment(**environ: str) -> dict[str, str]:
    """Return the environment of a shell in which `.venv/bin/activate` was read, and nothing of Greenroom is set."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("GREENROOM_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{others['PATH']}"
    return {**others, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environ}


@contextmanager
def running(command: str, folder: Path, **environ: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a command of a shell from when it says on which port it listens; gives its address, and the process."""
    with run(command, folder, **environ) as process:
        port = read_until(process, _PORT)
        yield f"http://127.0.0.1:{(port[1] or port[2]).decode()}", process


def run_example(name: str, **environ: str) -> AbstractContextManager[tuple[str, subprocess.Popen[bytes]]]:
    """Run an example by its command, on a free port in the place of its own."""
    command = COMMANDS[name].replace("5000", "0")
    ports = {"PORT": "0", "GREENROOM_SERVER__PORT": "0", "GREENROOM_SERVER__DRAIN_SECONDS": "0.2"}
    return running(f"exec {command}", EXAMPLES, **ports, **environ)


@contextmanager
def run(command: str, folder: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of a shell, and end it with all that it has started."""
    process = subprocess.Popen(
        ["sh", "-c", command],
        cwd=folder,
        env=environment(**environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A group of its own: hypercorn's worker is a process that outlives the killed parent.
        start_new_session=True,
    )

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    # Reading the lines of a process that hangs has no other end.
    limit = threading.Timer(PATIENCE_SECONDS, kill)
    limit.start()
    try:
        yield process
    finally:
        limit.cancel()
        kill()
        process.communicate(timeout=PATIENCE_SECONDS)


def read_until(process: subprocess.Popen[bytes], pattern: re.Pattern[bytes]) -> re.Match[bytes]:
    """Read the lines of a process up to the one that matches."""
    assert process.stdout is not None
    said = b""
    while not (found := pattern.search(said)):
        line = process.stdout.readline()
        assert line, said.decode()
        said += line
    return found


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Install the packages of the example in Express, once for all runs, unless there is no Node.js or no network."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs Node.js and npm")
    installed = EXAMPLES / "node_modules" / ".package-lock.json"
    lock = EXAMPLES / "package-lock.json"
    with lock.open() as opened:
        # Of several workers of xdist one installs.
        fcntl.flock(opened, fcntl.LOCK_EX)
        if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
            options = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error")
            with run(" ".join(("exec npm ci", *options)), EXAMPLES) as npm:
                said, _ = npm.communicate()
            if npm.returncode != 0:
                pytest.skip(f"npm cannot install the packages of examples/: {said.decode()}")
    return installed.parent
