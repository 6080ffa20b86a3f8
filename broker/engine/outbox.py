"""The contract of an engine's outbox: queues of what happened, kept until an application was told of it.

- An entry is written in the same transaction as what it tells of: both are stored or neither, and it is as durable.
- The entries of a queue have numbers that rise, over restarts too, and are not used twice in an epoch; gaps mean nothing.
  The epoch of a queue changes only when its numbers may begin anew, as the engine has lost what it stored or holds an
  older state. Epoch and number together name an entry for good.
- An outbox has partitions. All entries of a room are in the same one, in the order in which they happened. Those of a
  user without a room are in the partition of the user's name.
- `user_left`, `room_vacated` and `user_offline` are written after the queue's `hold_back_seconds`. If the user returns
  to the room (anybody to the room, the user to the broker) before that, neither they are written nor the opposite entry.
- Any node may read. Only the holder of a partition's lease may remove or put aside: each new holder has a larger fencing
  number, and a holder that was replaced is refused.
- An ephemeral event has no entry, and a repetition of a stored one has no second entry.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Protocol, TypeAlias

import attrs
import msgspec

from broker.config.patterns import matches
from broker.errors import GreenroomError
from broker.model import Event, Position

POLL_SECONDS = 1.0
"""Longest time that `Outbox.wait_new` waits: entries that were held back become due without an event."""

MOST_CACHED_ROOMS = 16_384


class Kind(StrEnum):
    """The kinds of entries."""

    MESSAGE = "message"
    USER_JOINED = "user_joined"
    USER_LEFT = "user_left"
    ROOM_OCCUPIED = "room_occupied"
    ROOM_VACATED = "room_vacated"
    USER_ONLINE = "user_online"
    USER_OFFLINE = "user_offline"


@attrs.frozen
class Queue:
    """A queue of the outbox, for one reader, and the entries that it gets."""

    name: str
    kinds: frozenset[Kind]
    rooms: tuple[str, ...] = ("*",)
    """Patterns of room names; kinds without a room are not limited by them."""
    hold_back_seconds: float = 5.0

    def has_room(self, room: str | None) -> bool:
        """Whether it gets entries of a room; None stands for those without one."""
        return room is None or any(matches(pattern, room) for pattern in self.rooms)

    @property
    def hold_back_ms(self) -> int:
        """`hold_back_seconds` in milliseconds."""
        return int(self.hold_back_seconds * 1000)


class Entry(msgspec.Struct, frozen=True):
    """Something that happened."""

    epoch: str
    number: int
    kind: Kind
    time_ms: int
    """When it happened; Unix milliseconds."""
    queued_ms: int
    """When it came into the queue, after it was held back or put aside; Unix milliseconds."""
    room: str | None
    user: str | None
    """The user; None for a message of an application, and for kinds that name none."""
    fields: msgspec.Raw
    """A JSON object with what else the kind has: `offset`, `epoch`, `content` of a message (and `traceparent`), `info` of a user who
    came, if there is one."""

    @property
    def id(self) -> str:
        """The name of the entry, the same each time that it is read."""
        return f"{self.epoch}-{self.number}"


class AsideEntry(msgspec.Struct, frozen=True):
    """An entry that was put aside, as nobody could be told of it."""

    entry: Entry
    aside_ms: int
    """Unix milliseconds."""
    reason: str


@attrs.frozen
class QueueStatistics:
    """A snapshot of a queue in one partition."""

    partition: str
    queue: str
    waiting: int
    """Entries to be read, without those held back."""
    oldest_ms: int | None
    """When the first of them came into the queue, in Unix milliseconds; None if there is none."""
    aside: int
    """Entries put aside."""
    dropped: int = 0
    """Entries that were lost since the start, because the queue was full; only in memory."""


class FencedError(GreenroomError):
    """The lease of a partition has a newer holder, so that nothing was changed."""


class Outbox(ABC):
    """The queues of an engine; the module's docstring is its contract.

    Every method may raise EngineUnavailableError, which changes nothing; one that is cancelled or raises it may have
    been done all the same, and all may be repeated.
    """

    @property
    @abstractmethod
    def partitions(self) -> Sequence[str]:
        """The names of the partitions: one, or one for each server."""

    @abstractmethod
    async def lease(self, partition: str, holder: str, seconds: float) -> int | None:
        """Get or extend the lease of a partition for `seconds`; returns the fencing number, None if another has it.

        A holder that extends its lease in time keeps its number.
        """

    @abstractmethod
    async def release(self, partition: str, holder: str) -> None:
        """End the lease of a partition, if `holder` has it."""

    @abstractmethod
    async def read(self, partition: str, queue: str, *, limit: int, after: int = 0) -> Sequence[Entry]:
        """Return entries with numbers above `after`, in the order of their numbers; held-back ones that are due, too."""

    @abstractmethod
    async def remove(self, partition: str, queue: str, numbers: Sequence[int], fence: int) -> None:
        """Remove entries; numbers that are not in the queue are passed over.

        :raises FencedError: if `fence` is not the number of the latest holder.
        """

    @abstractmethod
    async def put_aside(
        self, partition: str, queue: str, numbers: Sequence[int], reason: str, fence: int
    ) -> None:
        """Take entries out of the queue and keep them aside; numbers that are not in the queue are passed over.

        :raises FencedError: if `fence` is not the number of the latest holder.
        """

    @abstractmethod
    async def list_aside(
        self, partition: str, queue: str, *, limit: int, after: int = 0
    ) -> Sequence[AsideEntry]:
        """Return entries put aside with numbers above `after`, in the order of their numbers."""

    @abstractmethod
    async def repeat(self, partition: str, queue: str, numbers: Sequence[int] | None = None) -> int:
        """Return entries put aside, all for None, to the queue; returns how many they were.

        Each keeps its number, and so comes before all that is newer. Its `queued_ms` is the present time.
        """

    @abstractmethod
    async def statistics(self) -> Sequence[QueueStatistics]:
        """Return a snapshot of each queue in each partition."""

    @abstractmethod
    async def wait_new(self, partition: str, queue: str) -> None:
        """Wait until entries may have come since the last `read` of this queue began, at most POLL_SECONDS.

        For one reader of each queue.
        """


QueuesOf: TypeAlias = Callable[[str], tuple[Queue, ...]]
"""Returns the queues that get the messages of a room."""


def message_queues(queues: Iterable[Queue]) -> QueuesOf | None:
    """Return what finds the queues that get a room's messages; None if no queue gets any."""
    wanting = tuple(queue for queue in queues if Kind.MESSAGE in queue.kinds)
    if not wanting:
        return None

    @lru_cache(MOST_CACHED_ROOMS)
    def of(room: str) -> tuple[Queue, ...]:
        return tuple(queue for queue in wanting if queue.has_room(room))

    return of


class EntryWriter(Protocol):
    """Writes entries within the transaction of an engine."""

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
        """Write an entry at the end of a queue."""
        ...


def write_message_entry(
    writer: EntryWriter, queues: Iterable[Queue], room: str, position: Position, event: Event
) -> None:
    """Write the entry of a stored event to queues."""
    fields = message_fields(position, event.content, event.header.traceparent)
    for queue in queues:
        writer.write(
            *(queue.name, Kind.MESSAGE),
            time_ms=event.time_ms,
            room=room,
            user=event.header.sender,
            fields=fields,
        )


def message_fields(position: Position, content: bytes, traceparent: str | None = None) -> msgspec.Raw:
    """Return the fields of a message's entry; `content` is a JSON object."""
    epoch = msgspec.json.encode(position.epoch)
    if traceparent is not None:
        parent = msgspec.json.encode(traceparent)
        fields = (position.offset, epoch, parent, content)
        return msgspec.Raw(b'{"offset":%d,"epoch":%b,"traceparent":%b,"content":%b}' % fields)
    return msgspec.Raw(b'{"offset":%d,"epoch":%b,"content":%b}' % (position.offset, epoch, content))


def info_fields(info: bytes | None) -> msgspec.Raw:
    """Return the fields of the entry of a user who came."""
    return msgspec.Raw(b"{}" if info is None else b'{"info":%b}' % info)
