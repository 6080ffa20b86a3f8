"""The contract of every engine.

- A room has an epoch, made when the room is first touched and kept as long as the engine remembers the room; a
  room forgotten and touched again has a new epoch, never an old one. Where the engine is durable, an epoch that was
  told outlives restarts, also that of a room that nothing was said in yet, unless what is stored may have gone back.
- What the engine knows of a room it can tell while nothing can be stored: reading needs no space.
- If the engine may have lost events that it told of (a crash of what it stands on), the room has a new epoch.
- Within an epoch stored events have the offsets 1, 2, 3, … in the order in which they were appended.
- `append` stores all its drafts or none. When it returns, the events are as safe as the engine makes them.
- A draft whose idempotency key was stored within the window is not stored again; its receipt tells the first
  position. The window outlives rooms' actors, and the engine's restarts where the engine is durable.
- An ephemeral draft takes its turn among the others and is not stored. An append of nothing but ephemeral drafts
  without keys stores nothing, and needs nothing that can be stored to.
- History is kept up to the given retention, and to a bound on all rooms together where the engine has one: the
  rooms idle for longest are then forgotten before their time. What is trimmed is gone from the front only, so that what `read`
  gives is always a run without gaps up to the room's position.
- Whatever cannot be done just now raises EngineUnavailableError, and then nothing of the call was done. If a
  call is cancelled, its drafts are stored all or none; asking again with the same keys tells which. The same goes
  for a call whose answer was lost on a network.
- The text of an EngineUnavailableError is for the log, where the engine itself says when trouble begins: clients
  are told its `trouble` and nothing else.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import attrs

from broker.engine.cluster import Cluster
from broker.engine.feed import Feed
from broker.engine.presence import Presence
from broker.model import Draft, Event, Position


@attrs.frozen
class Retention:
    """How much of a room is kept; the tightest bound wins, and 0 in any of them keeps nothing."""

    messages: int
    bytes: int
    age_seconds: float


@attrs.frozen
class Receipt:
    """What became of one draft.

    `position` is None for an ephemeral draft. `event` is None for a repetition, which nobody is to hear again.
    """

    position: Position | None
    event: Event | None


@attrs.frozen
class Run:
    """A run of a room's events, and where the room stands.

    `first_held` is the oldest offset still in the history, `position.offset + 1` when it is empty.
    """

    position: Position
    first_held: int
    events: tuple[Event, ...]

    def can_continue(self, since: Position) -> bool:
        """Whether everything after `since` is still held, so that nothing was missed for good."""
        return (
            since.epoch == self.position.epoch and self.first_held - 1 <= since.offset <= self.position.offset
        )


@attrs.frozen
class EngineStatistics:
    """A snapshot of an engine; all zero for one that does not commit."""

    commits: int = 0
    """Transactions committed since it was opened."""
    messages: int = 0
    """Drafts in them."""
    waiting: int = 0
    """Appends that are not committed yet."""
    history_bytes: int | None = None
    """Memory that all histories take together; None if they are not in memory."""
    rooms_evicted: int = 0
    """Rooms forgotten before their time to make space."""


def is_kept(draft: Draft) -> bool:
    """Whether anything of a draft is stored: its event, or its key."""
    return not draft.ephemeral or draft.key is not None


class Engine(ABC):
    """Keeps the events of all rooms; the module's docstring is its contract."""

    @property
    def feed(self) -> Feed | None:
        """What brings the appends of all nodes, this one's included; None if receipts alone tell of them."""
        return None

    @property
    def presence(self) -> Presence | None:
        """What tells of users on other nodes; None if there are no other nodes. There is none without a feed."""
        return None

    @property
    def cluster(self) -> Cluster | None:
        """What asks other nodes; None if there are no other nodes."""
        return None

    @abstractmethod
    async def position(self, room: str) -> Position:
        """Return where the room stands; a new room has its epoch from now on.

        :raises EngineUnavailableError: if the engine cannot tell.
        """

    @abstractmethod
    async def append(self, room: str, drafts: Sequence[Draft], retention: Retention) -> Sequence[Receipt]:
        """Store drafts in their order; one receipt for each.

        :raises EngineUnavailableError: if nothing was stored.
        """

    @abstractmethod
    async def read(
        self, room: str, *, after: int = 0, limit: int | None = None, reverse: bool = False
    ) -> Run:
        """Return held events with offsets above `after`, oldest first, at most `limit`.

        With `reverse`, the newest `limit` of them, newest first.

        :raises EngineUnavailableError: if the engine cannot read.
        """

    def statistics(self) -> EngineStatistics:
        """Return a snapshot."""
        return EngineStatistics()

    @abstractmethod
    async def wait_ready(self) -> None:
        """Return when the engine can serve.

        :raises EngineUnavailableError: if it cannot.
        """
