"""Engines for tests."""

from broker.engine.base import Receipt, Retention
from broker.engine.memory import MemoryEngine
from broker.model import Draft, Position


class LongWayEngine(MemoryEngine):
    """The memory engine, all of whose appends go through `append`, for tests that make it slow or fail."""

    def append_nowait(self, room: str, draft: Draft, retention: Retention, after: Position) -> Receipt | None:
        return None
