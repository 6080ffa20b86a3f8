"""Engines by URL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.config.settings import Settings
from broker.engine.base import Engine
from broker.engine.memory import MemoryEngine
from broker.errors import ConfigurationError
from broker.model import WallClock

ENGINE_SCHEMES = ("memory",)
"""The engines of this build, by the scheme of their URL."""


@asynccontextmanager
async def open_engine(settings: Settings, *, wall_clock: WallClock) -> AsyncIterator[Engine]:
    """Open the engine that `server.engine` names; leaving the block flushes and closes it.

    :raises ConfigurationError: if there is no such engine.
    """
    scheme = settings.server.engine.partition("://")[0]
    if scheme != "memory":
        raise ConfigurationError(f"server.engine: {scheme}:// is none of {', '.join(ENGINE_SCHEMES)}")
    yield MemoryEngine(wall_clock=wall_clock, idempotency_seconds=settings.history.idempotency_seconds)
