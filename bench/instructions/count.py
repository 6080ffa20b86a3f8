"""Runs the script under callgrind and reads what it counted."""

import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import msgspec

from bench.errors import BenchError, last_lines

_HERE = Path(__file__).parent
_ROOT = _HERE.parent.parent
_SECONDS = 1200.0
_STAGE = re.compile(r"^desc: Trigger: Client Request: (\S+)$", re.MULTILINE)
_TOTAL = re.compile(r"^totals: (\d+)$", re.MULTILINE)
_COUNTED = ("trio", "trio-websocket", "wsproto", "h11", "msgspec", "attrs", "outcome", "pyjwt")


class Surroundings(msgspec.Struct, frozen=True):
    """The interpreter, as it was built, and the packages: the counts depend on them beside our own code."""

    python: str
    build: str
    packages: dict[str, str]


def surroundings() -> Surroundings:
    """Return those of this process."""
    built = (
        f"{platform.python_build()} {platform.python_compiler()} {sysconfig.get_config_var('CONFIG_ARGS')}"
    )
    return Surroundings(
        python=platform.python_version(),
        build=hashlib.sha256(built.encode()).hexdigest()[:16],
        packages={name: importlib.metadata.version(name) for name in _COUNTED},
    )


def missing() -> str | None:
    """Return what counting needs and is not there, None if all is."""
    if sys.platform != "linux":
        return "Linux"
    absent = [name for name in ("valgrind", _compiler()) if shutil.which(name) is None]
    if not absent and not _has_header():
        absent.append("valgrind/callgrind.h")
    return " and ".join(absent) or None


def _has_header() -> bool:
    """Return whether valgrind's headers are there, which some distributions pack by themselves."""
    arguments = [_compiler(), "-fsyntax-only", str(_HERE / "stages.c")]
    return subprocess.run(arguments, capture_output=True, timeout=_SECONDS, check=False).returncode == 0


def count(module: str = "bench.instructions.script", *, timeout_seconds: float = _SECONDS) -> dict[str, int]:
    """Return the instructions of each stage of a script, which is given the library; takes half a minute.

    :raises BenchError: if something needed is missing, or the script fails.
    """
    if absent := missing():
        raise BenchError(f"counting instructions needs {absent}")
    with tempfile.TemporaryDirectory() as directory:
        library = Path(directory) / "stages.so"
        _run([_compiler(), "-O2", "-shared", "-fPIC", "-o", str(library), str(_HERE / "stages.c")])
        out = Path(directory) / "out"
        _run(
            [
                "valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}",
                sys.executable, "-m", module, str(library),
            ],
            timeout_seconds,
        )  # fmt: skip
        texts = [dump.read_text() for dump in Path(directory).glob("out.*")]
    stages = dict(found for text in texts if (found := _read(text)))
    if not stages:
        raise BenchError("callgrind has written no counts")
    return dict(sorted(stages.items()))


def _compiler() -> str:
    return os.environ.get("CC", "cc")


def _read(dump: str) -> tuple[str, int] | None:
    stage, total = _STAGE.search(dump), _TOTAL.search(dump)
    return (stage[1], int(total[1])) if stage and total else None


def _run(arguments: list[str], timeout_seconds: float = _SECONDS) -> None:
    # What the hashes of strings are decides in which order sets are walked; bytecode must be there already or never.
    # Where the tests' coverage is measured, its tracer would be counted as well.
    untraced = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    environment = untraced | {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            arguments,
            cwd=_ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise BenchError(f"{arguments[0]} did not end within {timeout_seconds:g} s") from late
    if done.returncode:
        raise BenchError(f"{arguments[0]} ended with status {done.returncode}{last_lines(done.stderr)}")
