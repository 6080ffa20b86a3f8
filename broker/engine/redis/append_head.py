"""The first arguments of the scripts that append drafts. Pure."""

from collections.abc import Callable, Sequence

import attrs

from broker.engine.base import Retention, is_kept
from broker.engine.redis.append_arguments import AppendArguments
from broker.engine.redis.client.commands import pack_arguments
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
        is_any_kept = any(map(is_kept, drafts))
        return [self._make_epoch(), now_ms, *self._limits(room, keys, retention, is_any_kept=is_any_kept)]

    def _limits(
        self, room: str, keys: RoomKeys, retention: Retention, *, is_any_kept: bool
    ) -> tuple[str | bytes | int, ...]:
        """Return the arguments behind epoch and time, the same for each append of which any draft is kept, or none."""
        age_ms = int(retention.age_seconds * 1000)
        # Ephemeral drafts may make the room, which then expires like one that was only joined.
        keep_room_ms = max(age_ms, self._idempotency_ms) + SLACK_MS if is_any_kept else UNTOUCHED_MS
        return (
            *(self._idempotency_ms, keep_room_ms, keys.channel),
            *(retention.messages, retention.bytes, age_ms, self._queues_of(room)),
        )

    def pack(self, room: str, keys: RoomKeys, retention: Retention) -> AppendArguments:
        """Return what packs the appends of a room."""
        limits = [self._limits(room, keys, retention, is_any_kept=is_any) for is_any in (False, True)]
        return AppendArguments(
            keys,
            pack_arguments(keys.meta, keys.stream),
            (pack_arguments(*limits[0]), pack_arguments(*limits[1])),
            len(limits[0]),
        )
