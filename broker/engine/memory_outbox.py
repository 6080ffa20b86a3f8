"""The outbox of a single process, and its book of who is present: in memory, and lost with it."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import attrs
import msgspec
import trio

from broker.engine.age_clock import Moment
from broker.engine.attendance import Attendance, Book, Held, QueuesAtPlaces
from broker.engine.local_outbox import LocalOutbox
from broker.engine.outbox import (
    AsideEntry,
    Entry,
    Kind,
    Queue,
    QueueStatistics,
    info_fields,
    message_queues,
)

PARTITION = "memory"

QUEUE_BYTES = 1 << 26
"""Memory of the entries of a queue that wait, and of those put aside; past it the oldest are dropped."""

ENTRY_BYTES = 512
"""Memory of an entry besides its fields."""


def _memory_bytes(entry: Entry) -> int:
    return ENTRY_BYTES + len(entry.fields)


@attrs.define(eq=False)
class _Queue:
    """The entries of one queue, by their numbers, which rise."""

    waiting: OrderedDict[int, Entry] = attrs.Factory(OrderedDict)
    waiting_bytes: int = 0
    aside: OrderedDict[int, AsideEntry] = attrs.Factory(OrderedDict)
    aside_bytes: int = 0
    number: int = 0
    dropped: int = 0
    held: OrderedDict[tuple[Kind, str, str], tuple[int, Held]] = attrs.Factory(OrderedDict)
    """Those held back, with when they are due. All are held back for the same time, so that the first is due first."""

    def add(self, entry: Entry) -> None:
        self.waiting[entry.number] = entry
        self.waiting_bytes += _memory_bytes(entry)

    def take(self, number: int) -> Entry | None:
        entry = self.waiting.pop(number, None)
        if entry is not None:
            self.waiting_bytes -= _memory_bytes(entry)
        return entry

    def take_aside(self, number: int) -> AsideEntry | None:
        found = self.aside.pop(number, None)
        if found is not None:
            self.aside_bytes -= _memory_bytes(found.entry)
        return found

    def sort(self) -> None:
        self.waiting = OrderedDict(sorted(self.waiting.items()))

    def drop_oldest(self, most_bytes: int) -> None:
        while self.waiting_bytes > most_bytes:
            self.take(next(iter(self.waiting)))
            self.dropped += 1
        while self.aside_bytes > most_bytes:
            self.take_aside(next(iter(self.aside)))
            self.dropped += 1


class MemoryOutbox(LocalOutbox, Attendance):
    """See Outbox, Attendance and BookStore.

    Each queue is bounded: past `queue_bytes` its oldest entries are dropped, and counted.
    """

    def __init__(
        self,
        queues: Iterable[Queue],
        *,
        epoch: str,
        now: Callable[[], Moment],
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        configured = tuple(queues)
        super().__init__(PARTITION, configured)
        self._configured = {queue.name: queue for queue in configured}
        self._queues = {queue.name: _Queue() for queue in configured}
        at_places = QueuesAtPlaces(configured)
        self.has_book = not at_places.is_empty
        self._book = Book(at_places, self)
        self._present: dict[str, set[str]] = {}
        self.message_queues = message_queues(configured)
        """Returns the queues that get the messages of a room; None if there are none for any."""
        self._epoch = epoch
        self._now = now
        self._queue_bytes = queue_bytes

    def came(self, place: str, user_id: str, info: bytes | None) -> None:
        """See Attendance."""
        if self._book.queues.want(place):
            self._book.came(place, user_id, info_fields(info), self._now())

    def left(self, place: str, user_id: str) -> None:
        """See Attendance."""
        if self._book.queues.want(place):
            self._book.left(place, user_id, self._now())

    def add(self, place: str, user: str) -> bool:
        """See BookStore."""
        users = self._present.setdefault(place, set())
        if user in users:
            return False
        users.add(user)
        return True

    def discard(self, place: str, user: str) -> bool:
        """See BookStore."""
        users = self._present.get(place, set())
        if user not in users:
            return False
        users.remove(user)
        if not users:
            del self._present[place]
        return True

    def is_vacant(self, place: str) -> bool:
        """See BookStore."""
        return place not in self._present

    def hold(self, queue: str, held: Held, due_ms: int) -> None:
        """See BookStore."""
        self._queues[queue].held[held.kind, held.place, held.user] = (due_ms, held)

    def take_held(self, queue: str, kind: Kind, place: str, user: str) -> bool:
        """See BookStore."""
        return self._queues[queue].held.pop((kind, place, user), None) is not None

    def take_due(self, queue: str, age_ms: int) -> Sequence[Held]:
        """See BookStore."""
        waiting, due = self._queues[queue].held, []
        while waiting and next(iter(waiting.values()))[0] <= age_ms:
            due.append(waiting.popitem(last=False)[1][1])
        return due

    def write(
        self,
        queue: str,
        kind: Kind,
        *,
        time_ms: int,
        room: str | None,
        user: str | None,
        fields: msgspec.Raw,
    ) -> None:
        """See BookStore."""
        found = self._queues[queue]
        found.number += 1
        queued_ms = self._now().time_ms
        found.add(Entry(self._epoch, found.number, kind, time_ms, queued_ms, room, user, fields))
        self._news[queue].set()
        found.drop_oldest(self._queue_bytes)

    async def read(self, partition: str, queue: str, *, limit: int, after: int = 0) -> Sequence[Entry]:  # noqa: ARG002
        """See Outbox."""
        await trio.lowlevel.checkpoint_if_cancelled()
        found = self._queues[queue]
        self._book.write_due(self._configured[queue], self._now())
        self._news[queue].clear()
        return list(islice((each for number, each in found.waiting.items() if number > after), limit))

    async def remove(self, partition: str, queue: str, numbers: Sequence[int], fence: int) -> None:  # noqa: ARG002
        """See Outbox."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._lease.check(fence)
        for number in numbers:
            self._queues[queue].take(number)

    async def put_aside(
        self,
        partition: str,  # noqa: ARG002
        queue: str,
        numbers: Sequence[int],
        reason: str,
        fence: int,
    ) -> None:
        """See Outbox."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._lease.check(fence)
        found, now_ms = self._queues[queue], self._now().time_ms
        for number in numbers:
            entry = found.take(number)
            if entry is not None:
                found.aside[number] = AsideEntry(entry, now_ms, reason)
                found.aside_bytes += _memory_bytes(entry)
        found.drop_oldest(self._queue_bytes)

    async def list_aside(
        self,
        partition: str,  # noqa: ARG002
        queue: str,
        *,
        limit: int,
        after: int = 0,
    ) -> Sequence[AsideEntry]:
        """See Outbox."""
        await trio.lowlevel.checkpoint_if_cancelled()
        aside = self._queues[queue].aside
        return [aside[number] for number in sorted(aside) if number > after][:limit]

    async def repeat(self, partition: str, queue: str, numbers: Sequence[int] | None = None) -> int:  # noqa: ARG002
        """See Outbox."""
        await trio.lowlevel.checkpoint_if_cancelled()
        found, now_ms, count = self._queues[queue], self._now().time_ms, 0
        for number in list(found.aside) if numbers is None else numbers:
            returned = found.take_aside(number)
            if returned is not None:
                found.add(msgspec.structs.replace(returned.entry, queued_ms=now_ms))
                count += 1
        if count:
            self._news[queue].set()
        found.sort()
        found.drop_oldest(self._queue_bytes)
        return count

    async def statistics(self) -> Sequence[QueueStatistics]:
        """See Outbox."""
        await trio.lowlevel.checkpoint_if_cancelled()
        return [
            QueueStatistics(
                *(PARTITION, name, len(queue.waiting)),
                next((entry.queued_ms for entry in queue.waiting.values()), None),
                len(queue.aside),
                queue.dropped,
            )
            for name, queue in self._queues.items()
        ]
