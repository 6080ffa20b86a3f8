"""The identity of this node."""

import os
import socket
import time
from functools import cached_property

import attrs

from broker.clocks import boot_clock
from broker.http.version import greenroom_version


@attrs.frozen
class Node:
    """One broker of one process."""

    name: str
    """Unique: the machine and the process."""
    machine: str
    worker: int
    """Index among the workers of its machine; 0 if it is the only one."""
    started_ms: int
    """Unix milliseconds, as the wall clock had it then."""
    started_at: float
    """On the boot clock."""

    @cached_property
    def version(self) -> str:
        """The version of Greenroom."""
        return greenroom_version()

    def up_ms(self) -> int:
        """Return the time since the start, by the boot clock."""
        return int((boot_clock() - self.started_at) * 1000)


def this_node(machine: str | None = None, worker: int = 0) -> Node:
    """Return the node of this process, as started now; `machine` is its host name unless it is given."""
    machine = machine or socket.gethostname()
    started_ms, started_at = int(time.time() * 1000), boot_clock()
    return Node(f"{machine}:{os.getpid()}", machine, worker, started_ms, started_at)
