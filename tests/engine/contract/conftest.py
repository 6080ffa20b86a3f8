"""Every engine by its URL; the suite in this directory runs over all of them."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import attrs
import pytest

from broker.config.settings import HistorySettings, ServerSettings, Settings
from broker.engine.base import Engine
from broker.engine.open import open_engine
from broker.log import stdlib_log
from broker.model import WallClock

ENGINE_URLS = ("memory://", "sqlite:///PATH")


@attrs.define
class Wall:
    """A clock that stands still until it is moved; Unix seconds."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


OpenEngine = Callable[[WallClock], AbstractAsyncContextManager[Engine]]


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture(params=ENGINE_URLS)
def open_engine_under_test(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> OpenEngine:
    """Return what opens a new, empty engine on a clock; its idempotency window is 300 s."""

    @asynccontextmanager
    async def opened(wall_clock: WallClock) -> AsyncIterator[Engine]:
        path = tmp_path_factory.mktemp("engine") / "rooms.db"
        settings = Settings(
            server=ServerSettings(engine=request.param.replace("PATH", str(path))),
            history=HistorySettings(idempotency_seconds=300.0),
        )
        async with open_engine(settings, wall_clock=wall_clock, log=stdlib_log()) as engine:
            yield engine

    return opened


@pytest.fixture
async def engine(open_engine_under_test: OpenEngine, wall: Wall) -> AsyncIterator[Engine]:
    async with open_engine_under_test(wall) as opened:
        yield opened
