"""Makes what the baselines in C and JavaScript need, once, in the user's cache directory."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench.errors import BenchError

_HERE = Path(__file__).parent
_SECONDS = 180.0


def compiled(folder: str) -> Path:
    """Return the program made of the C files in a folder beside this file.

    :raises BenchError: if there is no C compiler (CC, or cc), or it refuses.
    """
    compiler = _tool(os.environ.get("CC", "cc"))
    made = _made(_HERE / folder, compiler)
    if not made.exists():
        sources = sorted(str(source) for source in (_HERE / folder).glob("*.c"))
        with tempfile.TemporaryDirectory(dir=_cache()) as directory:
            program = Path(directory) / "server"
            _run([compiler, "-O2", "-std=c11", "-o", str(program), *sources])
            program.rename(made)
    return made


def installed(folder: str) -> Path:
    """Return a copy of a folder beside this file with the packages that its package.json names.

    :raises BenchError: if node or npm is missing, or the packages cannot be had.
    """
    _tool("node")
    npm = _tool("npm")
    made = _made(_HERE / folder, npm)
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=_cache()) as directory:
            copy = Path(directory) / folder
            shutil.copytree(_HERE / folder, copy)
            _run([npm, "install", "--prefix", str(copy), "--ignore-scripts", "--no-audit", "--no-fund"])
            copy.rename(made)
    return made


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BenchError(f"there is no {name!r} to make this baseline with")
    return found


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(base) / "greenroom-bench"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def _made(folder: Path, tool: str) -> Path:
    """Return where it is once it is made; a change of any file makes it anew."""
    digest = hashlib.sha256(tool.encode())
    for file in sorted(folder.iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return _cache() / f"{folder.name}-{digest.hexdigest()[:16]}"


def _run(arguments: list[str]) -> None:
    try:
        subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.CalledProcessError as failed:
        raise BenchError(f"{arguments[0]} failed:\n{failed.stdout}{failed.stderr}") from failed
    except subprocess.TimeoutExpired as failed:
        raise BenchError(f"{arguments[0]} did not end within {_SECONDS:g} s") from failed
