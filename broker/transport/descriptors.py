"""The limit that the operating system sets to the connections of this process."""

import resource

RESERVED = 64
"""Descriptors kept for all but connections: listeners, files of the engine, pipes, libraries."""


def raise_limit() -> None:
    """Raise the soft limit of descriptors, often 1024 at the start, to the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections_possible() -> int:
    """Return how many connections fit beside the reserved descriptors; at least one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, soft - RESERVED)
