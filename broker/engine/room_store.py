"""The store of rooms that applications write: state, timers and answers, stored together with what a turn says.

- A turn is stored whole or not at all: its events, the new state, its timers, and the answer to its request. Several
  turns of one room that are stored together are stored all or none, in their order.
- State and timers are stored under the room's name. They outlive the room's history and its epoch, and have no age.
- An answer is kept for the idempotency window, as keys are; `recall` returns it until then.
- The times of timers are the age clock's (`broker.engine.age_clock`), which ignores steps of the wall clock and goes
  on while the process is down.
- `store` appends drafts as `Engine.append` does, with the same guarantees; drafts within it have no keys.

Where several nodes share the store (`is_shared`), a room has one owner at a time, which alone stores its turns:

- `load` makes this node the owner, unless another node that is alive owns the room.
- Each change of owner raises the room's fencing number, which the store keeps and checks in the same step as it stores.
  So a node that was away for longer than its lease, and whose room has another owner, stores nothing more in it.
- A node is alive while its lease is: that of the heartbeat by which presence knows it too. `release` gives a room up at
  once.
- `earliest_timers` returns the timers of rooms that this node owns, and of those that no node owns that is alive.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import islice

import attrs
import msgspec

from broker.engine.base import Receipt, Retention
from broker.errors import EngineTrouble, EngineUnavailableError, GreenroomError
from broker.model import Draft, IdempotencyKey, Position


@attrs.frozen
class OwnedElsewhereError(GreenroomError):
    """Another node owns the room."""

    node: str
    """Its id, as in `Peers`."""

    def __str__(self) -> str:
        return f"node {self.node} owns the room"


class OwnershipLostError(EngineUnavailableError):
    """The room has another owner than this node by now; nothing was stored."""

    def __init__(self) -> None:
        super().__init__(
            "another node owns the room now", trouble=EngineTrouble.ROOM_MOVED, retry_after_ms=100
        )


class Move(StrEnum):
    """Why a room has another owner than before."""

    RELEASED = "released"
    """The node before gave it up."""
    LOST = "lost"
    """The node before was not alive any more."""


class StoredState(msgspec.Struct, frozen=True):
    """The state of a room, as the class that wrote it encoded it."""

    class_name: str
    version: int
    content: bytes
    """JSON."""


@attrs.frozen
class StoredRoom:
    """All that is stored of a room besides its history."""

    state: StoredState | None = None
    """None: nothing is stored, so the room begins anew."""
    timers: Mapping[str, int] = attrs.field(factory=dict)
    """When each timer is due, by its name; milliseconds of the age clock."""
    owner: str | None = None
    """The node that owns the room, by its id in `Peers`; only `peek` of a shared store tells it."""


class DueTimer(msgspec.Struct, frozen=True):
    """A stored timer of a room; `due_ms` is of the age clock."""

    room: str
    name: str
    due_ms: int


class Answer(msgspec.Struct, frozen=True):
    """The answer to a request that is given again to its repetitions."""

    content: bytes
    """Empty for a message, and for a call whose answer was not kept. What may be kept is bounded above the store."""
    position: Position | None = None
    """That of the event that the request led to."""


@attrs.frozen
class StoredAnswer:
    """The answer to be stored with a turn."""

    key: IdempotencyKey
    content: bytes = b""
    draft: int | None = None
    """The draft of the turn whose position belongs to the answer: its place among them."""

    def of(self, receipts: Sequence[Receipt]) -> Answer:
        """Return the answer, by the receipts of the turn's drafts."""
        return Answer(self.content, None if self.draft is None else receipts[self.draft].position)


@attrs.frozen
class StoredTurn:
    """The part of one turn that is stored, besides the state."""

    drafts: Sequence[Draft] = ()
    timers: Mapping[str, int | None] = attrs.field(factory=dict)
    """Timers that are set (milliseconds of the age clock), or removed (None)."""
    answer: StoredAnswer | None = None


class RoomStore(ABC):
    """Stores the rooms that applications write; the module's docstring is its contract."""

    @property
    def is_shared(self) -> bool:
        """Whether several nodes share it, so that each room has an owner."""
        return False

    @property
    def moves(self) -> Mapping[Move, int]:
        """The rooms that this node has taken over from other nodes since its start, by why."""
        return {}

    @abstractmethod
    def now_ms(self) -> int:
        """Return the time of the age clock, in milliseconds."""

    @abstractmethod
    async def load(self, room: str) -> StoredRoom:
        """Return what is stored of a room; in a shared store, this node owns the room then.

        :raises OwnedElsewhereError: if another node owns it.
        :raises EngineUnavailableError: if it cannot be read.
        """

    async def peek(self, room: str) -> StoredRoom:
        """Return what is stored of a room as `load` does, but own nothing by it: to show it, whoever owns the room.

        :raises EngineUnavailableError: if it cannot be read.
        """
        assert not self.is_shared, "a shared store reads it without a claim"
        return await self.load(room)

    async def release(self, room: str) -> None:  # noqa: B027  # a store of one node has no owners
        """Give a room up, if this node owns it, so that another node may own it at once.

        :raises EngineUnavailableError: if that cannot be stored: then the node owns it as long as it is alive.
        """

    @abstractmethod
    async def recall(self, room: str, key: IdempotencyKey) -> Answer | None:
        """Return the answer that was stored with a key within the window.

        :raises EngineUnavailableError: if it cannot be read.
        """

    @abstractmethod
    async def store(
        self,
        room: str,
        turns: Sequence[StoredTurn],
        state: StoredState | None,
        retention: Retention,
        *,
        is_state_changed: bool,
    ) -> Sequence[Sequence[Receipt]]:
        """Store turns, all or none, and the state after the last of them; returns the receipts of each.

        With `is_state_changed`, `state` replaces the stored one, and None deletes it; else it is not looked at.

        In a shared store, a call without turns and state checks that this node still owns the room.

        If cancelled, the turns are stored all the same, or none of them.

        :raises OwnershipLostError: if this node does not own the room any more; it is not its owner from then on.
        :raises EngineUnavailableError: if nothing was stored.
        """

    @abstractmethod
    async def earliest_timers(self, limit: int) -> Sequence[DueTimer]:
        """Return the `limit` timers of all rooms that are due first, the earliest first.

        :raises EngineUnavailableError: if they cannot be read.
        """


def drafts_of(turns: Sequence[StoredTurn]) -> list[Draft]:
    """Return the drafts of all turns, in their order."""
    return [draft for turn in turns for draft in turn.drafts]


def receipts_by_turn(turns: Sequence[StoredTurn], receipts: Sequence[Receipt]) -> list[Sequence[Receipt]]:
    """Return the receipts of the drafts of each turn, from those of all turns."""
    remaining = iter(receipts)
    return [list(islice(remaining, len(turn.drafts))) for turn in turns]
