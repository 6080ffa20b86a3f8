"""The server of the soak: a Greenroom whose rooms can be crashed, and which tells how many tasks it has.

`python -m bench.soak.server CONFIG_FILE`
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import trio
from prometheus_client import CollectorRegistry, Gauge

from broker.clocks import boot_clock
from broker.config.load import load_settings
from broker.config.settings import Settings
from broker.engine.base import Receipt, Retention
from broker.engine.open import open_engine
from broker.engine.redis.engine import RedisEngine
from broker.errors import EngineUnavailableError
from broker.log import open_log
from broker.model import Draft
from broker.process import run_server

CRASH = b'"crash the room"'
"""What a message holds that crashes its room."""


class CrashError(Exception):
    """An error that nobody expects."""


class CrashingEngine(RedisEngine):
    """Raises what is no error of an engine, over some messages."""

    async def append(self, room: str, drafts: Sequence[Draft], retention: Retention) -> Sequence[Receipt]:
        """See Engine."""
        if any(CRASH in draft.content for draft in drafts):
            raise CrashError
        return await super().append(room, drafts, retention)

    def append_soon(
        self,
        room: str,
        draft: Draft,
        retention: Retention,
        on_done: Callable[[Receipt | EngineUnavailableError], None],
    ) -> bool:
        """See Engine."""
        return CRASH not in draft.content and super().append_soon(room, draft, retention, on_done)


async def serve(settings: Settings) -> None:
    """Serve until a signal."""
    registry = CollectorRegistry()
    tasks = Gauge("soak_tasks", "Tasks of trio", registry=registry)
    tasks.set_function(lambda: float(trio.lowlevel.current_statistics().tasks_living))
    log = open_log(settings.log, sys.stderr)
    async with open_engine(settings, wall_clock=time.time, log=log, boot_clock=boot_clock) as engine:
        assert type(engine) is RedisEngine
        # `open_redis` makes the engine; it has no attributes of its own there.
        engine.__class__ = CrashingEngine
        await run_server(settings, log=log, engine=engine, registry=registry)


def main() -> None:
    """Serve with the settings of a file and the environment."""
    trio.run(serve, load_settings(file=Path(sys.argv[1]), environ=os.environ, flags={}).settings)


if __name__ == "__main__":
    main()
