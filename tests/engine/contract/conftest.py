"""Every engine by its URL; the suite in this directory runs over all of them."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from secrets import token_hex

import attrs
import pytest

from broker.clocks import Clock
from broker.config.settings import HistorySettings, RedisSettings, ServerSettings, Settings, SqliteSettings
from broker.engine.base import Engine
from broker.engine.open import open_engine
from broker.engine.outbox import Queue
from broker.log import stdlib_log
from broker.model import WallClock
from tests.support.redis import RedisServer, shared_redis

__all__ = ["shared_redis"]

ENGINE_URLS = ("memory://", "sqlite:///PATH", "redis://PORT")


@attrs.define
class Wall:
    """A clock that stands still until it is moved; Unix seconds."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


OpenEngine = Callable[..., AbstractAsyncContextManager[Engine]]


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture(params=ENGINE_URLS)
def open_engine_under_test(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> OpenEngine:
    """Return what opens a new, empty engine on a wall clock and a boot clock; its idempotency window is 300 s."""

    def make_url() -> str:
        if request.param == "redis://PORT":
            redis: RedisServer = request.getfixturevalue("shared_redis")
            return redis.url
        return str(request.param).replace("PATH", str(tmp_path_factory.mktemp("engine") / "rooms.db"))

    @asynccontextmanager
    async def opened(
        wall_clock: WallClock, boot_clock: Clock | None = None, queues: Sequence[Queue] = ()
    ) -> AsyncIterator[Engine]:
        settings = Settings(
            server=ServerSettings(engine=make_url()),
            history=HistorySettings(idempotency_seconds=300.0),
            redis=RedisSettings(prefix=token_hex(8)),
            sqlite=SqliteSettings(witness_directory=str(tmp_path_factory.getbasetemp())),
        )
        async with open_engine(
            settings, wall_clock=wall_clock, boot_clock=boot_clock, log=stdlib_log(), queues=queues
        ) as engine:
            yield engine

    return opened


@pytest.fixture
async def engine(open_engine_under_test: OpenEngine, wall: Wall) -> AsyncIterator[Engine]:
    async with open_engine_under_test(wall) as opened:
        yield opened
