"""An engine whose every error holds a marker, which nobody outside is to read."""

import sqlite3
from collections.abc import Callable
from typing import Any

import hiredis

from broker.engine.memory import MemoryEngine
from broker.errors import EngineTrouble, EngineUnavailableError

MARK = "marker-10.9.8.7:6379 user_script:14 rooms.db"

SECRETS = (MARK, *MARK.split())

ERRORS: list[Callable[[], Exception]] = [
    *(
        lambda trouble=trouble: EngineUnavailableError(MARK, trouble=trouble, since=1.7e9)
        for trouble in EngineTrouble
    ),
    lambda: EngineUnavailableError(MARK),
    lambda: OSError(28, MARK, MARK),
    lambda: sqlite3.OperationalError(MARK),
    lambda: hiredis.ReplyError(MARK),
    lambda: ExceptionGroup(MARK, [ValueError(MARK)]),
]


class PoisonedEngine(MemoryEngine):
    """Keeps rooms in memory until it is given an error to raise."""

    def __init__(self, wall_clock: Callable[[], float] = lambda: 1.7e9) -> None:
        super().__init__(wall_clock=wall_clock, idempotency_seconds=300)
        self.make_error: Callable[[], Exception] | None = None

    def _fail(self) -> None:
        if self.make_error is not None:
            raise self.make_error()

    async def position(self, *args: Any) -> Any:
        self._fail()
        return await super().position(*args)

    async def append(self, *args: Any) -> Any:
        self._fail()
        return await super().append(*args)

    def append_nowait(self, *args: Any) -> Any:
        return None if self.make_error is not None else super().append_nowait(*args)

    async def read(self, *args: Any, **kwargs: Any) -> Any:
        self._fail()
        return await super().read(*args, **kwargs)

    async def wait_ready(self) -> None:
        self._fail()
        await super().wait_ready()
