"""The machine a benchmark runs on: its facts, and which core does what."""

import os
import platform
import resource
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import attrs

from bench.errors import BenchError

HOST = "127.0.0.1"
"""Where everything listens."""

_SPARE_FILES = 64
"""Descriptors that a server needs beside those of its connections."""


_IN_MEMORY = {"tmpfs", "ramfs"}


@attrs.frozen
class Machine:
    """The description of the machine, by which to judge the figures. `load_average` is over the minute before the start."""

    date: str
    cores: int
    processor: str
    kernel: str
    python: str
    load_average: float


@attrs.frozen
class Pins:
    """Which core is whose; None leaves it to the scheduler."""

    server: int | None
    generator: int | None


def describe() -> Machine:
    """Return the facts as they are now; the date is UTC."""
    return Machine(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        cores=len(os.sched_getaffinity(0)),
        processor=_processor(),
        kernel=platform.release(),
        python=platform.python_version(),
        load_average=os.getloadavg()[0],
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def disk() -> Path:
    """Return a directory for temporary files on a real disk: TMPDIR, or /var/tmp if that is in memory.

    :raises BenchError: if both are in memory; figures of a durable store would mean nothing.
    """
    for directory in (Path(tempfile.gettempdir()), Path("/var/tmp")):
        if filesystem(directory) not in _IN_MEMORY:
            return directory
    raise BenchError("all temporary directories are in memory: set TMPDIR to one on a disk")


def filesystem(directory: Path) -> str:
    """Return the type of the filesystem that a directory is on, as mounted now (proc(5), mountinfo)."""
    device = directory.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        if fields.split()[2] == wanted:
            return kind.split()[0]
    return "unknown"


def choose_pins(*, pin: bool) -> Pins:
    """Give the server and the generator a core each.

    :raises BenchError: if there are fewer than two: they would measure each other.
    """
    if not pin:
        return Pins(server=None, generator=None)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise BenchError(
            f"the server and the load generator need a core each, and there is {len(cores)}; "
            "with --no-pin they share it, and the figures say little"
        )
    return Pins(server=cores[0], generator=cores[1])


def check_connections(connections: int) -> None:
    """Check that a process of this machine can hold so many.

    :raises BenchError: if it has too few file descriptors or local ports.
    """
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most_files not in {-1, resource.RLIM_INFINITY} and connections + _SPARE_FILES > most_files:
        raise BenchError(
            f"{connections} connections do not fit: a process may open {most_files} files (ulimit -Hn)"
        )
    ports = local_ports()
    if connections > ports:
        raise BenchError(
            f"{connections} connections do not fit: there are {ports} local ports "
            "(sysctl net.ipv4.ip_local_port_range)"
        )


def local_ports() -> int:
    """Return from how many ports one address can connect."""
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    return high - low + 1


def allow_connections(connections: int) -> None:
    """Let this process hold so many.

    :raises BenchError: as `check_connections` does.
    """
    check_connections(connections)
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
