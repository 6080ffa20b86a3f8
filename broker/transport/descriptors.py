"""How many connections the operating system lets this process have."""

import resource

RESERVED = 64
"""Descriptors kept for everything that is no connection: listeners, files of the engine, pipes, libraries."""


def raise_limit() -> None:
    """Let this process open as many descriptors as it may; what it starts with is often only 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections_possible() -> int:
    """Return how many connections fit, beside what is reserved; at least one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, soft - RESERVED)
