"""The contract of every engine.

- A room has an epoch, made when the room is first used and kept until the engine forgets the room; a room that was
  forgotten and is used again has a new epoch, never an old one. Where the engine is durable, an epoch that was
  returned outlives restarts, also that of a room without events, unless the stored data may be an older state.
- Positions and events can be read while nothing can be stored: reading needs no space.
- If the engine may have lost events that it acknowledged (a crash of its storage), the room has a new epoch.
- Within an epoch stored events have the offsets 1, 2, 3, … in the order in which they were appended.
- `append` stores all its drafts or none. When it returns, the events are as durable as the engine makes them.
- A draft whose idempotency key was stored within the window is not stored again; its receipt has the first
  position. The window outlives rooms' actors, and the engine's restarts where the engine is durable.
- An event has the header of its draft, in the receipt, in the feed and when it is read. One that an earlier version
  stored without a header has as much of it as its content tells (`read_header`), one stored with a shorter header the
  defaults; fields that a later version has added are passed over.
- An ephemeral draft keeps its place in the order and is not stored. An append of ephemeral drafts without keys
  stores nothing, and works while nothing can be stored.
- History is kept up to the given retention, and to a bound on all rooms together where the engine has one: the
  rooms idle for longest are then forgotten early. Events are trimmed from the front only, so that `read` always
  returns a run without gaps up to the room's position.
- A call that cannot be done now raises EngineUnavailableError, and has changed nothing. If a call is cancelled, or
  its answer is lost on a network, its drafts are stored all or none; repeating it with the same keys shows which.
- The text of an EngineUnavailableError is for the log, where the engine notes each beginning of trouble: clients
  get its `trouble` and nothing else.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs
import msgspec
import trio

from broker.engine.attendance import Attendance
from broker.engine.cluster import Cluster
from broker.engine.feed import Feed
from broker.engine.outbox import Outbox
from broker.engine.presence import PresenceBus
from broker.engine.revocations import RevocationStore
from broker.errors import EngineUnavailableError
from broker.histograms import DelayHistogram, SizeHistogram
from broker.model import Draft, Event, Position

if TYPE_CHECKING:
    from broker.engine.peers import Peers
    from broker.engine.room_store import RoomStore


@attrs.frozen
class Retention:
    """How much of a room's history is kept; the tightest bound wins, and 0 in any of them keeps nothing."""

    messages: int
    bytes: int
    age_seconds: float


class Receipt(msgspec.Struct, frozen=True):
    """The result for one draft.

    `position` is None for an ephemeral draft. `event` is None for a repetition, which is not delivered again.
    """

    position: Position | None
    event: Event | None


@attrs.frozen
class Run:
    """Consecutive events of a room, and the room's position.

    `first_held` is the oldest offset still in the history, `position.offset + 1` when it is empty.
    """

    position: Position
    first_held: int
    events: tuple[Event, ...]

    def can_continue(self, since: Position) -> bool:
        """Whether all events after `since` are still held, so that none was missed for good."""
        return (
            since.epoch == self.position.epoch and self.first_held - 1 <= since.offset <= self.position.offset
        )


@attrs.frozen
class EngineStatistics:
    """A snapshot of an engine; all zero for one that does not commit."""

    commits: int = 0
    """Transactions since it was opened."""
    messages: int = 0
    """Drafts in those transactions."""
    waiting: int = 0
    """Appends that wait for their commit."""
    history_bytes: int | None = None
    """Memory that all histories take together; None if they are not in memory."""
    rooms_evicted: int = 0
    """Rooms forgotten early to make space."""


@attrs.frozen
class EngineHealth:
    """Whether an engine works, as far as it knows without trying."""

    is_up: bool = True
    servers_up: tuple[bool, ...] = ()
    """Whether each of its servers answers, in the order of the configuration; empty if it has none."""


OPERATIONS = ("append", "read", "position", "clear", "commit")
"""What an engine that waits for a store measures: its calls, and its transactions by themselves where it has them."""


class EngineMeter:
    """The times and batch sizes of an engine that waits for a store. Calls that fail are not counted."""

    def __init__(self, batches: Sequence[SizeHistogram]) -> None:
        """`batches` count the requests to each store that went there together."""
        self.batches = batches
        self.append, self.read, self.position, self.clear, self.commit = (
            DelayHistogram() for _ in OPERATIONS
        )

    def seconds(self) -> Mapping[str, DelayHistogram]:
        """Return the times by operation."""
        times = (self.append, self.read, self.position, self.clear, self.commit)
        return dict(zip(OPERATIONS, times, strict=True))


@contextmanager
def measured(histogram: DelayHistogram) -> Iterator[None]:
    """Count the time of the block, unless it raises."""
    began = trio.current_time()
    yield
    histogram.note(trio.current_time() - began)


def is_kept(draft: Draft) -> bool:
    """Whether a draft is stored, or at least its key."""
    return not draft.ephemeral or draft.key is not None


class Engine(ABC):
    """Keeps the events of all rooms; the module's docstring is its contract."""

    @property
    def feed(self) -> Feed | None:
        """The feed of all nodes' appends, this one's included; None if there is only this node and its receipts."""
        return None

    @property
    def presence(self) -> PresenceBus | None:
        """The presence of other nodes; None without a feed."""
        return None

    @property
    def cluster(self) -> Cluster | None:
        """The questions to other nodes; None if there are no other nodes."""
        return None

    @property
    def revocations(self) -> RevocationStore | None:
        """The store of revocations of tokens; None if it keeps none, so that they end with the node."""
        return None

    @property
    def outbox(self) -> Outbox | None:
        """The queues of what happened, for those who are to be told; None if it has none."""
        return None

    @property
    def attendance(self) -> Attendance | None:
        """The book of who is present; None if no queue of the outbox wants to know."""
        return None

    @property
    def room_store(self) -> "RoomStore | None":
        """The store of rooms that applications write; None if it has none."""
        return None

    @property
    def peers(self) -> "Peers | None":
        """The messages between single nodes; None if there are no other nodes."""
        return None

    @abstractmethod
    async def position(self, room: str) -> Position:
        """Return the room's position; a new room gets its epoch.

        :raises EngineUnavailableError: if it cannot be read.
        """

    @abstractmethod
    async def append(self, room: str, drafts: Sequence[Draft], retention: Retention) -> Sequence[Receipt]:
        """Store drafts in their order; one receipt for each.

        :raises EngineUnavailableError: if nothing was stored.
        """

    def append_nowait(
        self,
        room: str,  # noqa: ARG002
        draft: Draft,  # noqa: ARG002
        retention: Retention,  # noqa: ARG002
        after: Position,  # noqa: ARG002
    ) -> Receipt | None:
        """Append one draft without a wait, if the engine can and the room stands at `after`; else do nothing.

        Returns None if nothing was done: then `append` decides.
        """
        return None

    def append_soon(
        self,
        room: str,  # noqa: ARG002
        draft: Draft,  # noqa: ARG002
        retention: Retention,  # noqa: ARG002
        on_done: Callable[[Receipt | EngineUnavailableError], None],  # noqa: ARG002
    ) -> bool:
        """Begin to append one draft, if the engine can do that without a wait; else do nothing and return False.

        `on_done` is called once, later and in another task, with the receipt or with the error that `append` would
        raise; it must not raise. What is begun later is done later.
        """
        return False

    @abstractmethod
    async def read(
        self, room: str, *, after: int = 0, limit: int | None = None, reverse: bool = False
    ) -> Run:
        """Return held events with offsets above `after`, oldest first, at most `limit`.

        With `reverse`, the newest `limit` of them, newest first.

        :raises EngineUnavailableError: if they cannot be read.
        """

    @abstractmethod
    async def clear(self, room: str) -> int:
        """Delete all held events; returns how many there were. The room's position stays, and offsets go on rising.

        Idempotency keys stay, too. A room of which nothing is stored is not made.

        :raises EngineUnavailableError: if nothing was deleted.
        """

    def statistics(self) -> EngineStatistics:
        """Return a snapshot."""
        return EngineStatistics()

    @property
    def meter(self) -> EngineMeter | None:
        """Its times and batch sizes; None if it waits for no store, or does not measure."""
        return None

    def health(self) -> EngineHealth:
        """Return what it knows of its state; unlike `wait_ready`, it waits for nothing."""
        return EngineHealth()

    @abstractmethod
    async def wait_ready(self) -> None:
        """Return when the engine can serve.

        :raises EngineUnavailableError: if it cannot serve.
        """
