"""The resources that a server holds once nobody is there, and whether they are as many as before. Pure, but for reading it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import attrs

from bench import procfs
from bench.load.api import Api

MEMORY = "memory, MiB"


@attrs.frozen
class Bound:
    """How much more of something may be there at the end than at the beginning."""

    share: float = 0.0
    more: float = 0.0

    def allows(self, before: float, after: float) -> bool:
        """Whether so much is little enough."""
        return after <= before * (1 + self.share) + self.more


BOUNDS: Mapping[str, Bound] = MappingProxyType(
    {
        # The allocator keeps pages with something in them, and ids are known for a while (history.idempotency_seconds).
        MEMORY: Bound(share=0.1, more=8),
        # Kept connections to the receiver of webhooks come and go.
        "descriptors": Bound(more=4),
        "tasks": Bound(more=4),
        "connections": Bound(),
        "members": Bound(),
        "rooms": Bound(),
        "outbox bytes": Bound(),
    }
)

_METRICS = {
    "tasks": "soak_tasks",
    "connections": "greenroom_connections",
    "members": "greenroom_room_members",
    "rooms": "greenroom_rooms",
    "outbox bytes": "greenroom_outbox_bytes",
}
EMPTY = ("connections", "members", "rooms", "outbox bytes")
"""What is to be 0 before anything is compared."""

Reading = Mapping[str, float]


def read(pid: int, api: Api) -> Reading:
    """Return what a server holds now.

    :raises BenchError: if it does not answer.
    """
    metrics = api.metrics()
    return {
        MEMORY: procfs.resident_bytes(pid) / 2**20,
        "descriptors": float(len(list(Path(f"/proc/{pid}/fd").iterdir()))),
        **{name: metrics[metric] for name, metric in _METRICS.items()},
    }


def is_empty(reading: Reading) -> bool:
    """Whether nobody is there any more."""
    return not any(reading[name] for name in EMPTY)


@attrs.frozen
class Row:
    """One thing before and after."""

    name: str
    before: float
    after: float
    is_back: bool


def compare(before: Reading, after: Reading) -> Iterator[Row]:
    """Compare two readings, by BOUNDS."""
    for name, bound in BOUNDS.items():
        yield Row(name, before[name], after[name], bound.allows(before[name], after[name]))
