"""Which node this is."""

import os
import socket
import time

import attrs

from broker.http.version import greenroom_version


@attrs.frozen
class Node:
    """One broker of one process."""

    name: str
    """Unique: the machine and the process."""
    machine: str
    worker: int
    """Which of the workers of its machine; 0 if it is the only one."""
    version: str
    started_ms: int
    """Unix milliseconds."""


def this_node(machine: str | None = None, worker: int = 0) -> Node:
    """Return the node of this process, as started now; `machine` is its host name unless it is given."""
    machine = machine or socket.gethostname()
    return Node(f"{machine}:{os.getpid()}", machine, worker, greenroom_version(), int(time.time() * 1000))
