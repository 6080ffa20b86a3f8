"""The engine of a single process: everything in memory, gone with it."""

import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import islice

import attrs
import trio

from broker.engine.base import Engine, Receipt, Retention, Run
from broker.model import Draft, Event, IdempotencyKey, Position, WallClock

UNTOUCHED_SECONDS = 3600.0
"""How long a room that nothing was said in keeps its epoch."""


@attrs.define
class _RoomLog:
    """One room's history. `events` holds the offsets first_held … offset."""

    epoch: str
    forget_after: float  # Unix seconds; nothing is held from then on
    retention: Retention
    look_again_at: float = 0.0  # Unix seconds; never later than forget_after
    offset: int = 0
    events: deque[Event] = attrs.Factory(deque)
    bytes: int = 0

    @property
    def first_held(self) -> int:
        return self.offset - len(self.events) + 1

    def trim(self, now: float) -> None:
        retention = self.retention
        oldest_ms = (now - retention.age_seconds) * 1000
        events = self.events
        while events and (
            len(events) > retention.messages or self.bytes > retention.bytes or events[0].time_ms <= oldest_ms
        ):
            self.bytes -= len(events.popleft().content)


class MemoryEngine(Engine):
    """Answers at once. Rooms whose newest event is past its age are forgotten, epoch and all."""

    def __init__(
        self,
        *,
        wall_clock: WallClock,
        idempotency_seconds: float,
        make_epoch: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._wall_clock = wall_clock
        self._idempotency_seconds = idempotency_seconds
        self._make_epoch = make_epoch
        self._logs: dict[str, _RoomLog] = {}
        # A heap of when to look at which room again; one brought forward leaves its old entry behind.
        self._looks: list[tuple[float, str]] = []
        # Oldest first: every key has the same window.
        self._keys: OrderedDict[tuple[str, IdempotencyKey], tuple[Position | None, float]] = OrderedDict()

    async def position(self, room: str) -> Position:
        """See Engine."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._forget(self._wall_clock())
        log = self._log(room)
        return Position(log.epoch, log.offset)

    async def append(self, room: str, drafts: Sequence[Draft], retention: Retention) -> Sequence[Receipt]:
        """See Engine. Never waits: a checkpoint for each batch of each room would cost more than the append."""
        now = self._wall_clock()
        self._forget(now)
        log = self._log(room)
        receipts = [self._append_one(room, log, draft, now) for draft in drafts]
        log.retention = retention
        log.trim(now)
        log.forget_after = now + max(retention.age_seconds, self._idempotency_seconds)
        if log.forget_after < log.look_again_at:
            self._look_again(room, log)
        return receipts

    async def read(
        self, room: str, *, after: int = 0, limit: int | None = None, reverse: bool = False
    ) -> Run:
        """See Engine. Others get a turn: what is read may be large, and asked for many times in a row."""
        await trio.lowlevel.checkpoint()
        log = self._log(room)
        log.trim(self._wall_clock())
        count = min(len(log.events), max(0, log.offset - after))
        if reverse:
            events = tuple(islice(reversed(log.events), count))[:limit]
        else:
            skipped = len(log.events) - count
            stop = None if limit is None else skipped + limit
            events = tuple(islice(log.events, skipped, stop))
        return Run(Position(log.epoch, log.offset), log.first_held, events)

    async def wait_ready(self) -> None:
        """See Engine: always ready."""
        await trio.lowlevel.checkpoint()

    def _log(self, room: str) -> _RoomLog:
        log = self._logs.get(room)
        if log is None:
            log = self._logs[room] = _RoomLog(
                epoch=self._make_epoch(),
                forget_after=self._wall_clock() + UNTOUCHED_SECONDS,
                retention=Retention(0, 0, 0.0),
            )
            self._look_again(room, log)
        return log

    def _look_again(self, room: str, log: _RoomLog) -> None:
        log.look_again_at = log.forget_after
        heappush(self._looks, (log.look_again_at, room))

    def _append_one(self, room: str, log: _RoomLog, draft: Draft, now: float) -> Receipt:
        if draft.key is not None:
            known = self._keys.get((room, draft.key))
            if known is not None:
                return Receipt(known[0], None)
        time_ms = int(now * 1000)
        if draft.ephemeral:
            receipt = Receipt(None, Event(draft.content, time_ms, None))
        else:
            log.offset += 1
            event = Event(draft.content, time_ms, log.offset)
            log.events.append(event)
            log.bytes += len(draft.content)
            receipt = Receipt(Position(log.epoch, log.offset), event)
        if draft.key is not None:
            self._keys[room, draft.key] = (receipt.position, now + self._idempotency_seconds)
        return receipt

    def _forget(self, now: float) -> None:
        """Drop what has run out; each call does as much as the calls before it have added."""
        while self._keys and next(iter(self._keys.values()))[1] <= now:
            self._keys.popitem(last=False)
        while self._looks and self._looks[0][0] <= now:
            at, room = heappop(self._looks)
            log = self._logs.get(room)
            if log is None or log.look_again_at != at:
                continue
            if log.forget_after <= now:
                del self._logs[room]
            else:
                self._look_again(room, log)
