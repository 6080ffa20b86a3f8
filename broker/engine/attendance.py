"""The book of who is present, over all nodes: decides which entries a user who comes or leaves has in the outbox.

A place is a room, or the broker as a whole, in which each user has a place of its own. So a user is online while it is in
its place, and a room is occupied while anybody is in it.

An entry of the last kinds (left, vacated, offline) is held back, and deleted if the user comes back meanwhile: then
nothing is written at all. A queue that wants only one kind of a pair has its held-back entries too, so that a user who
comes back within the time is no event for it either.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Protocol

import attrs
import msgspec
import trio

from broker.engine.age_clock import Moment
from broker.engine.outbox import MOST_CACHED_ROOMS, EntryWriter, Kind, Queue

NO_FIELDS = msgspec.Raw(b"{}")
USER_PLACES = "/"
"""Begins the places of users; no room's name has it."""


class Attendance(ABC):
    """Notes the users of this node in the book of an engine.

    Nobody waits: what is noted is written as soon as it can be, in its order. What was not written when the node died
    has not happened, and of what was written the opposite is written when the node is taken for dead, or starts again.
    """

    @abstractmethod
    def came(self, place: str, user_id: str, info: bytes | None) -> None:
        """Note that a user, who had no connection of this node in a place, has one; `info` is JSON."""

    @abstractmethod
    def left(self, place: str, user_id: str) -> None:
        """Note that a user has no connection of this node in a place any more."""

    async def wait_written(self) -> None:
        """Wait until all that was noted is written."""
        await trio.lowlevel.checkpoint()


def user_place(user_id: str) -> str:
    """Return the place in which a user is while it has a connection to the broker."""
    return USER_PLACES + user_id


def is_user_place(place: str) -> bool:
    """Whether a place is a user's, and no room."""
    return place.startswith(USER_PLACES)


def name_of_place(place: str) -> str:
    """Return the name of the room or the user, by which the partition is chosen."""
    return place.removeprefix(USER_PLACES)


@attrs.frozen
class Pair:
    """The kinds of an entry for the first one who came, and for the last one who left."""

    first: Kind
    last: Kind


OCCUPANCY = Pair(Kind.ROOM_OCCUPIED, Kind.ROOM_VACATED)
MEMBERSHIP = Pair(Kind.USER_JOINED, Kind.USER_LEFT)
CONNECTEDNESS = Pair(Kind.USER_ONLINE, Kind.USER_OFFLINE)
NOBODY = ""
"""Stands for the user where a pair has none."""


class QueuesAtPlaces:
    """Finds the queues of a pair at a place."""

    def __init__(self, queues: Iterable[Queue]) -> None:
        configured = tuple(queues)

        @lru_cache(MOST_CACHED_ROOMS)
        def find(pair: Pair, room: str | None) -> tuple[Queue, ...]:
            return tuple(
                queue
                for queue in configured
                if (pair.first in queue.kinds or pair.last in queue.kinds) and queue.has_room(room)
            )

        self._find = find
        self.is_empty = all(queue.kinds <= {Kind.MESSAGE} for queue in configured)
        """Whether no queue wants any pair, so that no book is needed."""

    def want(self, place: str) -> bool:
        """Whether any queue wants to know who is at a place."""
        pairs = (CONNECTEDNESS,) if is_user_place(place) else (OCCUPANCY, MEMBERSHIP)
        return any(self.of(pair, place) for pair in pairs)

    def of(self, pair: Pair, place: str) -> tuple[Queue, ...]:
        """Return the queues that want the first or the last kind of a pair."""
        return self._find(pair, None if is_user_place(place) else place)


@attrs.frozen
class Held:
    """An entry that is held back. It has no fields."""

    kind: Kind
    place: str
    user: str
    """NOBODY where the pair has none."""
    time_ms: int
    """When it happened; Unix milliseconds."""

    @property
    def room_and_user(self) -> tuple[str | None, str | None]:
        """The room and the user in the entry."""
        return None if is_user_place(self.place) else self.place, self.user or None


class BookStore(EntryWriter, Protocol):
    """The part of an engine that keeps a book; each method takes part in the transaction of the engine."""

    def add(self, place: str, user: str) -> bool:
        """Add a user to a place; returns False if it is there."""
        ...

    def discard(self, place: str, user: str) -> bool:
        """Remove a user from a place; returns False if it is not there."""
        ...

    def is_vacant(self, place: str) -> bool:
        """Whether nobody is in a place."""
        ...

    def hold(self, queue: str, held: Held, due_ms: int) -> None:
        """Hold an entry back until a time on the age clock."""
        ...

    def take_held(self, queue: str, kind: Kind, place: str, user: str) -> bool:
        """Delete an entry that is held back; returns False if there is none."""
        ...

    def take_due(self, queue: str, age_ms: int) -> Sequence[Held]:
        """Delete and return the entries whose time has come, in the order in which they were due, then were held."""
        ...


@attrs.frozen
class Book:
    """The decisions, over what an engine stores."""

    queues: QueuesAtPlaces
    store: BookStore

    def came(self, place: str, user: str, fields: msgspec.Raw, now: Moment) -> None:
        """Note that a user came to a place, on any node; nothing happens if it is there."""
        was_vacant = self.store.is_vacant(place)
        if not self.store.add(place, user):
            return
        if is_user_place(place):
            self._first(CONNECTEDNESS, place, user, fields, now)
            return
        if was_vacant:
            self._first(OCCUPANCY, place, NOBODY, NO_FIELDS, now)
        self._first(MEMBERSHIP, place, user, fields, now)

    def left(self, place: str, user: str, now: Moment) -> None:
        """Note that a user left a place, on all nodes; nothing happens if it is not there."""
        if not self.store.discard(place, user):
            return
        if is_user_place(place):
            self._last(CONNECTEDNESS, place, user, now)
            return
        self._last(MEMBERSHIP, place, user, now)
        if self.store.is_vacant(place):
            self._last(OCCUPANCY, place, NOBODY, now)

    def write_due(self, queue: Queue, now: Moment) -> None:
        """Write the entries of a queue that were held back and are due."""
        for held in self.store.take_due(queue.name, now.age_ms):
            if held.kind in queue.kinds:
                room, user = held.room_and_user
                self.store.write(
                    *(queue.name, held.kind), time_ms=held.time_ms, room=room, user=user, fields=NO_FIELDS
                )

    def _first(self, pair: Pair, place: str, user: str, fields: msgspec.Raw, now: Moment) -> None:
        for queue in self.queues.of(pair, place):
            self.write_due(queue, now)
            if self.store.take_held(queue.name, pair.last, place, user):
                continue
            if pair.first in queue.kinds:
                room, name = Held(pair.first, place, user, now.time_ms).room_and_user
                self.store.write(
                    *(queue.name, pair.first), time_ms=now.time_ms, room=room, user=name, fields=fields
                )

    def _last(self, pair: Pair, place: str, user: str, now: Moment) -> None:
        for queue in self.queues.of(pair, place):
            self.store.hold(
                queue.name, Held(pair.last, place, user, now.time_ms), now.age_ms + queue.hold_back_ms
            )
            if not queue.hold_back_ms:
                self.write_due(queue, now)
