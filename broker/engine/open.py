"""Opens the engine that a URL names, and imports no other: each takes a tenth of a second."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote

from broker.clocks import Clock
from broker.config.settings import Settings
from broker.engine.base import Engine
from broker.engine.memory import MemoryEngine
from broker.engine.outbox import Kind, Queue
from broker.errors import ConfigurationError
from broker.log import Log
from broker.model import WallClock

ENGINE_SCHEMES = ("memory", "sqlite", "redis", "rediss")
"""The engines of this build, by the scheme of their URL."""


@asynccontextmanager
async def open_engine(
    settings: Settings,
    *,
    wall_clock: WallClock,
    log: Log,
    boot_clock: Clock | None = None,
    queues: Sequence[Queue] | None = None,
) -> AsyncIterator[Engine]:
    """Open the engine that `server.engine` names; leaving the block flushes and closes it.

    Ages are measured by `boot_clock`; without one, by the wall clock, as in a test with a single clock. It has an outbox
    if there are `queues`, whose names are all different; by default there is one for each webhook.

    :raises ConfigurationError: if there is no such engine, or it cannot be opened.
    """
    scheme, _, rest = settings.server.engine.partition("://")
    queues = queues_of(settings) if queues is None else queues
    idempotency_seconds = settings.history.idempotency_seconds
    if scheme == "memory":
        yield MemoryEngine(
            wall_clock=wall_clock,
            boot_clock=boot_clock,
            log=log,
            idempotency_seconds=idempotency_seconds,
            total_bytes=settings.history.total_bytes,
            queues=queues,
        )
    elif scheme == "sqlite":
        from broker.engine.sqlite.engine import open_sqlite  # noqa: PLC0415

        async with open_sqlite(
            sqlite_path(rest),
            synchronous=settings.sqlite.synchronous,
            witness_directory=Path(settings.sqlite.witness_directory),
            idempotency_seconds=idempotency_seconds,
            wall_clock=wall_clock,
            boot_clock=boot_clock,
            log=log,
            queues=queues,
        ) as engine:
            yield engine
    elif scheme in {"redis", "rediss"}:
        from broker.engine.redis.open import open_redis  # noqa: PLC0415

        async with open_redis(
            settings.server.engine,
            settings.redis,
            idempotency_seconds=idempotency_seconds,
            wall_clock=wall_clock,
            boot_clock=boot_clock,
            log=log,
            queues=queues,
        ) as engine:
            yield engine
    else:
        raise ConfigurationError(f"server.engine: {scheme}:// is none of {', '.join(ENGINE_SCHEMES)}")


def queues_of(settings: Settings) -> tuple[Queue, ...]:
    """Return the queues of the outbox: one for each webhook, with its name."""
    return tuple(
        Queue(each.name, frozenset(map(Kind, each.kinds)), each.rooms, each.hold_back_seconds)
        for each in settings.webhooks
    )


def check_engine(settings: Settings) -> None:
    """Check the engine's URL and files as far as possible without opening them; blocking.

    :raises ConfigurationError: if `open_engine` would fail.
    """
    scheme, _, rest = settings.server.engine.partition("://")
    if scheme == "sqlite":
        from broker.engine.sqlite.location import check_path  # noqa: PLC0415

        check_path(sqlite_path(rest))
    elif scheme in {"redis", "rediss"}:
        from broker.engine.redis.open import check_redis  # noqa: PLC0415

        check_redis(settings.server.engine, settings.redis)


def database_path(url: str) -> Path:
    """Return the path of the file that an engine's URL names.

    :raises ConfigurationError: if the engine keeps no file.
    """
    scheme, _, rest = url.partition("://")
    if scheme != "sqlite":
        raise ConfigurationError(f"server.engine: {scheme}:// keeps no file; only sqlite:// does")
    return sqlite_path(rest)


def sqlite_path(rest: str) -> Path:
    """Return the path of sqlite:///relative or sqlite:////absolute, given the part after `sqlite://`.

    :raises ConfigurationError: if there is none.
    """
    if not rest.startswith("/") or rest == "/":
        raise ConfigurationError(
            "server.engine: sqlite:///PATH, with a fourth slash for an absolute path: sqlite:////var/lib/rooms.db"
        )
    return Path(unquote(rest[1:]))
