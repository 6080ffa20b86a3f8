"""The engine with short times, a clock of today, and a listener that remembers."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from secrets import token_hex
from typing import TypeVar

import attrs
import trio

from broker.config.settings import RedisSettings
from broker.engine.base import Retention
from broker.engine.outbox import Queue
from broker.engine.redis.engine import RedisEngine
from broker.engine.redis.open import open_redis
from broker.errors import EngineUnavailableError
from broker.log import stdlib_log
from broker.model import Draft, Event, IdempotencyKey
from broker.wakeup import Wakeup

KEEP = Retention(1000, 1 << 20, 86_400.0)
TIMEOUT_SECONDS = 0.5
"""Silence after which the engines of `opened_impatient` give up on a server."""
PATIENT_SECONDS = 60.0
"""The same for those of `opened`, which talk to a server that works, on a machine that may be busy."""
TEST_SECONDS = 120.0
"""How long a test may take before it is taken to hang."""

T = TypeVar("T")


@asynccontextmanager
async def opened(
    url: str,
    *,
    prefix: str | None = None,
    pending_bytes: int = 1 << 20,
    ca_file: str | None = None,
    probe_seconds: float = 0.05,
    timeout_seconds: float = PATIENT_SECONDS,
    lease_seconds: float = 10.0,
    queues: Sequence[Queue] = (),
) -> AsyncIterator[RedisEngine]:
    """Open an engine under a prefix of its own, with everything bounded in time."""
    settings = RedisSettings(
        prefix=prefix or token_hex(8),
        ca_file=ca_file,
        timeout_seconds=timeout_seconds,
        probe_seconds=probe_seconds,
        pending_bytes=pending_bytes,
        lease_seconds=lease_seconds,
    )
    with trio.fail_after(TEST_SECONDS):
        async with open_redis(
            url, settings, idempotency_seconds=300.0, wall_clock=time.time, log=stdlib_log(), queues=queues
        ) as engine:
            yield engine


opened_impatient = partial(opened, timeout_seconds=TIMEOUT_SECONDS)
"""Open an engine that soon gives up, for tests of servers that fall silent."""


def draft(number: int, key: str | None = None, *, size: int = 0, ephemeral: bool = False) -> Draft:
    content = b'{"type":"n","n":%d,"x":"%b"}' % (number, b"x" * size)
    return Draft(content, ephemeral, None if key is None else IdempotencyKey("ann", key))


async def wait_until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that a server far away brings about."""
    while not await condition():  # noqa: ASYNC110  # what another process does sets no Event
        await trio.sleep(0.01)


async def wait_ready(engine: RedisEngine) -> None:
    """Wait until the engine says that it is."""

    async def is_ready() -> bool:
        return await trouble(engine) is None

    await wait_until(is_ready)


async def wait_trouble(engine: RedisEngine, words: str) -> str:
    """Wait until the engine is not ready for a reason with these words; returns all it says."""

    async def has_trouble() -> bool:
        return words in (await trouble(engine) or "")

    await wait_until(has_trouble)
    reason = await trouble(engine)
    assert reason is not None
    return reason


async def trouble(engine: RedisEngine) -> str | None:
    try:
        await engine.wait_ready()
    except EngineUnavailableError as error:
        return str(error)
    return None


async def when_served(call: Callable[[], Awaitable[T]]) -> T:
    """Ask again until the engine can."""
    while True:
        try:
            return await call()
        except EngineUnavailableError:
            await trio.sleep(0.01)


@attrs.define(eq=False)
class Ear:
    """A listener that keeps what it hears."""

    heard: list[tuple[str, Event]] = attrs.Factory(list)
    behind: int = 0
    news: Wakeup = attrs.Factory(Wakeup)

    def arrived(self, epoch: str, events: Sequence[Event]) -> None:
        self.heard += [(epoch, event) for event in events]
        self._tell()

    def fell_behind(self) -> None:
        self.behind += 1
        self._tell()

    def offsets(self) -> list[int | None]:
        return [event.offset for _, event in self.heard]

    async def wait(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self.news.wait()

    def _tell(self) -> None:
        self.news.set()
