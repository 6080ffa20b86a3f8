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
    version: str
    started_ms: int
    """Unix milliseconds."""


def this_node() -> Node:
    """Return the node of this process, as started now."""
    return Node(f"{socket.gethostname()}:{os.getpid()}", greenroom_version(), int(time.time() * 1000))
