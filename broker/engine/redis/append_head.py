"""The first arguments of the scripts that append drafts. Pure."""

from collections.abc import Callable, Sequence

import attrs

from broker.engine.base import Retention, is_kept
from broker.engine.redis.keyspace import RoomKeys
from broker.model import Draft

UNTOUCHED_MS = 3_600_000
"""How long a room without events keeps its epoch."""

SLACK_MS = 60_000
"""Added to the expiry of a room's keys, as Redis' clock and the nodes' clocks may differ."""


@attrs.frozen
class AppendHead:
    """Makes the arguments that `appending.lua` describes."""

    _make_epoch: Callable[[], str]
    _idempotency_ms: int
    _queues_of: Callable[[str], bytes]
    """The queues of the outbox that get the events of a room, as the scripts need them."""

    def make(
        self, room: str, keys: RoomKeys, drafts: Sequence[Draft], retention: Retention, now_ms: int
    ) -> list[str | bytes | int]:
        """Return the arguments for drafts that are appended at `now_ms`."""
        age_ms = int(retention.age_seconds * 1000)
        # Ephemeral drafts may make the room, which then expires like one that was only joined.
        keep_room_ms = (
            max(age_ms, self._idempotency_ms) + SLACK_MS if any(map(is_kept, drafts)) else UNTOUCHED_MS
        )
        return [
            *(self._make_epoch(), now_ms, self._idempotency_ms, keep_room_ms, keys.channel),
            *(retention.messages, retention.bytes, age_ms, self._queues_of(room)),
        ]
