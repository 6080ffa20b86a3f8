"""The targets, by name. Each has `SEEDS` and a function `check`, which raises for bytes that are handled wrongly."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Protocol, cast

PACKAGES = ("broker", "h11", "wsproto")
"""Those whose branches guide the search."""

NAMES = (
    "chunked_content",
    "client_frames",
    "commands",
    "forwarded",
    "ndjson",
    "node_messages",
    "plain_post",
    "portable_json",
    "proxy_header",
    "redis_replies",
    "request_head",
    "server_frames",
    "tokens",
)


class Target(Protocol):
    """A module of `targets`."""

    SEEDS: Sequence[bytes]
    check: Callable[[bytes], None]


def load(name: str) -> Target:
    """Import a target, and with it what it tests."""
    return cast("Target", import_module(f"tests.fuzz.targets.{name}"))
