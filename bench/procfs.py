"""CPU time and memory of a process and its descendants, from proc(5) of Linux."""

import os
from pathlib import Path

_PROC = Path("/proc")
# Fields of /proc/PID/stat after the command name, counted from 0 at `state`.
_UTIME, _STIME, _CUTIME, _CSTIME = 11, 12, 13, 14
# Fields of the first line of /proc/stat: user, nice, system, irq, softirq, steal.
_BUSY = (0, 1, 2, 5, 6, 7)


def descendants(pid: int) -> list[int]:
    """Return `pid` and the live processes below it; those that vanish meanwhile are left out."""
    found = [pid]
    for parent in found:
        try:
            for task in (_PROC / str(parent) / "task").iterdir():
                found.extend(int(child) for child in (task / "children").read_text().split())
        except OSError:
            continue
    return found


def cpu_seconds(pid: int) -> float:
    """Return the CPU time, user and system, that the tree below `pid` has used up to now.

    Children that ended and were waited for are in their parent's figure. The kernel counts in ticks of
    10 ms, so take it over seconds.
    """
    return sum(_own_cpu_ticks(member) for member in descendants(pid)) / os.sysconf("SC_CLK_TCK")


def busy_seconds() -> float:
    """Return the CPU time that all cores have spent on anything; what a hypervisor took away is in it."""
    fields = (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(int(fields[at]) for at in _BUSY) / os.sysconf("SC_CLK_TCK")


def _own_cpu_ticks(pid: int) -> int:
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return 0
    # The command name may hold spaces and parentheses; the last one ends it.
    fields = stat.rpartition(")")[2].split()
    return sum(int(fields[at]) for at in (_UTIME, _STIME, _CUTIME, _CSTIME))


def peak_resident_bytes(pid: int) -> int:
    """Return the sum of what each process of the tree below `pid` has held in memory at its peak."""
    return sum(_own_bytes(member, "VmHWM:") for member in descendants(pid))


def resident_bytes(pid: int) -> int:
    """Return the sum of what each process of the tree below `pid` holds in memory now."""
    return sum(_own_bytes(member, "VmRSS:") for member in descendants(pid))


def _own_bytes(pid: int, field: str) -> int:
    try:
        status = (_PROC / str(pid) / "status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0
