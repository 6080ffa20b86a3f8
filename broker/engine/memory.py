"""The engine of a single process: events in memory, which are lost with it.

Ages and windows are measured by the age clock (`broker.engine.age_clock`), which ignores steps of the wall clock.
"""

import math
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from hashlib import blake2b
from heapq import heapify, heappop, heappush
from itertools import islice

import attrs
import trio

from broker.clocks import Clock
from broker.engine.age_clock import EngineClock
from broker.engine.attendance import Attendance
from broker.engine.base import Engine, EngineStatistics, Receipt, Retention, Run
from broker.engine.memory_outbox import MemoryOutbox
from broker.engine.memory_room_store import MemoryRoomStore
from broker.engine.outbox import Queue, write_message_entry
from broker.engine.revocations import MemoryRevocations
from broker.log import Log, stdlib_log
from broker.model import Draft, Event, Excluded, IdempotencyKey, Position, WallClock

UNTOUCHED_SECONDS = 3600.0
"""How long a room without events keeps its epoch."""

TOTAL_BYTES = 1 << 29

ROOM_BYTES = 2048
"""Memory of a room besides its events: its name, epoch, queue and places in the indexes."""

EVENT_BYTES = 256
"""Memory of an event besides its content, and the names and tags in its header."""

TAG_BYTES = 256
"""Memory of a tag besides its characters: a tuple and two strings."""


@attrs.define
class _RoomLog:
    """One room's history. `events` holds the offsets first_held … offset."""

    epoch: str
    forget_after: float  # on the age clock; no event is held from then on
    retention: Retention
    check_at: float = 0.0  # likewise; never later than forget_after
    offset: int = 0
    events: deque[Event] = attrs.Factory(deque)
    appended_at: deque[float] = attrs.Factory(deque)  # of each of them, on the age clock
    bytes: int = 0  # of their content
    memory_bytes: int = ROOM_BYTES

    @property
    def first_held(self) -> int:
        return self.offset - len(self.events) + 1

    def trim(self, now: float) -> None:
        retention = self.retention
        oldest = now - retention.age_seconds
        events, appended_at = self.events, self.appended_at
        while events and (
            len(events) > retention.messages or self.bytes > retention.bytes or appended_at[0] <= oldest
        ):
            self.drop_oldest()

    def drop_oldest(self) -> None:
        event = self.events.popleft()
        self.bytes -= len(event.content)
        self.memory_bytes -= _memory_bytes(event)
        self.appended_at.popleft()


def _memory_bytes(event: Event) -> int:
    header = event.header
    # A character of a string takes up to four bytes, and in the content as few as one. Of sender and connection, all
    # events of a connection share one string.
    size = EVENT_BYTES + len(event.content) + 4 * (len(header.type) + len(header.name or ""))
    if header.excluded is not None:
        size += _excluded_bytes(header.excluded)
    return size + _tag_bytes(header.tags) if header.tags else size


def _excluded_bytes(excluded: Excluded) -> int:
    return TAG_BYTES + sum(TAG_BYTES + 4 * len(name) for name in excluded.names())


def _tag_bytes(tags: tuple[tuple[str, str], ...]) -> int:
    return sum(TAG_BYTES + 4 * (len(name) + len(value)) for name, value in tags)


class MemoryEngine(Engine):
    """Holds all rooms in memory. Rooms whose newest event is past its age are forgotten, epoch and all.

    So are the rooms idle for longest, once all together take more than `total_bytes`.
    """

    def __init__(
        self,
        *,
        wall_clock: WallClock,
        boot_clock: Clock | None = None,
        log: Log | None = None,
        idempotency_seconds: float,
        total_bytes: int = TOTAL_BYTES,
        queues: Sequence[Queue] = (),
        make_epoch: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._clock = EngineClock(wall_clock, log or stdlib_log(), boot_clock=boot_clock)
        self._idempotency_seconds = idempotency_seconds
        self._make_epoch = make_epoch
        self._total_bytes = total_bytes
        # In the order of their latest appends; a new room is the last.
        self._logs: OrderedDict[str, _RoomLog] = OrderedDict()
        self._revocations = MemoryRevocations(wall_clock)
        self._room_store = MemoryRoomStore(self.append, self._clock, idempotency_seconds=idempotency_seconds)
        self._outbox = MemoryOutbox(queues, epoch=make_epoch(), now=self._clock.moment) if queues else None
        self._message_queues = None if self._outbox is None else self._outbox.message_queues
        self._held_bytes = 0
        self._evicted = 0
        self._generation = make_epoch()
        """Changes whenever a room is forgotten. With a room's name it gives the epoch that the room would be made with,
        so that a read of an unknown room need not make it."""
        # A heap of (time of the next check, room); a check brought forward leaves its old entry behind.
        self._checks: list[tuple[float, str]] = []
        # Oldest first: every key has the same window.
        self._keys: OrderedDict[tuple[str, IdempotencyKey], tuple[Position | None, float]] = OrderedDict()
        self._forget_at = math.inf
        """When the first key or check is due, at the earliest."""

    @property
    def revocations(self) -> MemoryRevocations:
        """See Engine."""
        return self._revocations

    @property
    def outbox(self) -> MemoryOutbox | None:
        """See Engine."""
        return self._outbox

    @property
    def attendance(self) -> Attendance | None:
        """See Engine."""
        return self._outbox if self._outbox is not None and self._outbox.has_book else None

    @property
    def room_store(self) -> MemoryRoomStore:
        """See Engine."""
        return self._room_store

    async def position(self, room: str) -> Position:
        """See Engine."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._forget(self._clock.age())
        log = self._log(room)
        return Position(log.epoch, log.offset)

    async def append(self, room: str, drafts: Sequence[Draft], retention: Retention) -> Sequence[Receipt]:
        """See Engine. Never waits: a checkpoint for each batch of each room would cost more than the append."""
        now = self._clock.age()
        self._forget(now)
        log, time_ms = self._log(room), self._clock.time_ms(now)
        before = log.memory_bytes
        receipts = [self._append_one(room, log, draft, now, time_ms) for draft in drafts]
        self._settle(room, log, retention, now, before)
        return receipts

    def append_nowait(self, room: str, draft: Draft, retention: Retention, after: Position) -> Receipt | None:
        """See Engine."""
        now = self._clock.age()
        if now >= self._forget_at:
            self._forget(now)
        log = self._logs.get(room)
        if log is None or log.offset != after.offset or log.epoch != after.epoch:
            return None
        before = log.memory_bytes
        receipt = self._append_one(room, log, draft, now, self._clock.time_ms(now))
        self._settle(room, log, retention, now, before)
        return receipt

    def _settle(self, room: str, log: _RoomLog, retention: Retention, now: float, before: int) -> None:
        """Keep the limits after an append; `before` it, the log took so many bytes."""
        self._logs.move_to_end(room)
        log.retention = retention
        log.trim(now)
        self._held_bytes += log.memory_bytes - before
        if self._held_bytes > self._total_bytes:
            self._evict(log)
        log.forget_after = now + max(retention.age_seconds, self._idempotency_seconds)
        if log.forget_after < log.check_at:
            self._schedule_check(room, log)

    async def read(
        self, room: str, *, after: int = 0, limit: int | None = None, reverse: bool = False
    ) -> Run:
        """See Engine. Lets other tasks run first: a read may be large, and repeated many times in a row."""
        await trio.lowlevel.checkpoint()
        log = self._logs.get(room)
        if log is None:
            return Run(Position(self._first_epoch(room), 0), 1, ())
        before = log.memory_bytes
        log.trim(self._clock.age())
        self._held_bytes += log.memory_bytes - before
        count = min(len(log.events), max(0, log.offset - after))
        if reverse:
            events = tuple(islice(reversed(log.events), count))[:limit]
        else:
            skipped = len(log.events) - count
            stop = None if limit is None else skipped + limit
            events = tuple(islice(log.events, skipped, stop))
        return Run(Position(log.epoch, log.offset), log.first_held, events)

    async def clear(self, room: str) -> int:
        """See Engine."""
        await trio.lowlevel.checkpoint_if_cancelled()
        log = self._logs.get(room)
        if log is None:
            return 0
        before = log.memory_bytes
        log.trim(self._clock.age())
        count = len(log.events)
        while log.events:
            log.drop_oldest()
        self._held_bytes += log.memory_bytes - before
        return count

    async def wait_ready(self) -> None:
        """See Engine: always ready."""
        await trio.lowlevel.checkpoint()

    def statistics(self) -> EngineStatistics:
        """Return a snapshot."""
        return EngineStatistics(history_bytes=self._held_bytes, rooms_evicted=self._evicted)

    def _log(self, room: str) -> _RoomLog:
        log = self._logs.get(room)
        if log is None:
            log = self._logs[room] = _RoomLog(
                epoch=self._first_epoch(room),
                forget_after=self._clock.age() + UNTOUCHED_SECONDS,
                retention=Retention(0, 0, 0.0),
            )
            self._schedule_check(room, log)
            self._held_bytes += ROOM_BYTES
            if self._held_bytes > self._total_bytes:
                self._evict(log)
        return log

    def _schedule_check(self, room: str, log: _RoomLog) -> None:
        log.check_at = log.forget_after
        heappush(self._checks, (log.check_at, room))
        self._forget_at = min(self._forget_at, log.check_at)

    def _evict(self, newest: _RoomLog) -> None:
        """Forget the rooms idle for longest, until all take no more than `total_bytes`.

        Each room is made once before it is evicted, so this costs each append a constant on average. Keys stay: a
        repetition is not stored again because its room was forgotten.
        """
        while self._held_bytes > self._total_bytes and len(self._logs) > 1:
            _, log = self._logs.popitem(last=False)
            self._forget_log(log)
            self._evicted += 1
        before = newest.memory_bytes
        while newest.events and self._held_bytes - before + newest.memory_bytes > self._total_bytes:
            newest.drop_oldest()
        self._held_bytes += newest.memory_bytes - before
        if len(self._checks) > 2 * len(self._logs) + 100:
            # Most are of rooms that are gone.
            self._checks = [(log.check_at, room) for room, log in self._logs.items()]
            heapify(self._checks)

    def _forget_log(self, log: _RoomLog) -> None:
        self._held_bytes -= log.memory_bytes
        self._generation = self._make_epoch()

    def _first_epoch(self, room: str) -> str:
        return blake2b(room.encode(), key=self._generation.encode(), digest_size=8).hexdigest()

    def _append_one(self, room: str, log: _RoomLog, draft: Draft, now: float, time_ms: int) -> Receipt:
        if draft.key is not None:
            known = self._keys.get((room, draft.key))
            if known is not None:
                return Receipt(known[0], None)
        if draft.ephemeral:
            receipt = Receipt(None, Event(draft.content, time_ms, None, draft.header))
        else:
            log.offset += 1
            event = Event(draft.content, time_ms, log.offset, draft.header)
            log.events.append(event)
            log.appended_at.append(now)
            log.bytes += len(draft.content)
            log.memory_bytes += _memory_bytes(event)
            position = Position(log.epoch, log.offset)
            receipt = Receipt(position, event)
            if self._message_queues is not None and self._outbox is not None:
                write_message_entry(self._outbox, self._message_queues(room), room, position, event)
        if draft.key is not None:
            expires_at = now + self._idempotency_seconds
            self._keys[room, draft.key] = (receipt.position, expires_at)
            self._forget_at = min(self._forget_at, expires_at)
        return receipt

    def _forget(self, now: float) -> None:
        """Drop expired keys and rooms; each call does as much work as the calls before it have added."""
        while self._keys and next(iter(self._keys.values()))[1] <= now:
            self._keys.popitem(last=False)
        while self._checks and self._checks[0][0] <= now:
            at, room = heappop(self._checks)
            log = self._logs.get(room)
            if log is None or log.check_at != at:
                continue
            if log.forget_after <= now:
                del self._logs[room]
                self._forget_log(log)
            else:
                self._schedule_check(room, log)
        key_expires_at = next(iter(self._keys.values()))[1] if self._keys else math.inf
        self._forget_at = min(key_expires_at, self._checks[0][0] if self._checks else math.inf)
