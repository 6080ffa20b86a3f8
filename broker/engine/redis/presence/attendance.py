"""Notes this node's users in the book of who is present, on one server, and removes those of nodes that have died.

Changes made while others are on their way are noted together afterwards, in their order. If an answer is lost, or this
node had no lease, the state of all users is noted anew: what the book has already changes nothing.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from itertools import islice
from secrets import token_hex
from typing import TypeAlias

import attrs
import msgspec
import trio

from broker.engine.attendance import (
    NO_FIELDS,
    Attendance,
    QueuesAtPlaces,
    name_of_place,
)
from broker.engine.outbox import MOST_CACHED_ROOMS, info_fields
from broker.engine.redis.client.link import Link
from broker.engine.redis.keyspace import Keyspace
from broker.engine.redis.packed_queues import pack_book
from broker.engine.redis.replies import parse_left_in_book, parse_names, parse_text
from broker.engine.redis.scripts import Scripts
from broker.errors import EngineUnavailableError
from broker.wakeup import Wakeup

PLACES_AT_ONCE = 100
CHANGES_AT_ONCE = 1000
"""Most users in one script, as no other request is served meanwhile."""

RETRY_SECONDS = 0.5

Change: TypeAlias = tuple[str, msgspec.Raw | None]
"""A user, and the fields of its entry if it came; None if it left."""


@attrs.define(eq=False)
class _Place:
    """The users of this node at one place."""

    present: dict[str, msgspec.Raw] = attrs.Factory(dict)
    changes: list[Change] = attrs.Factory(list)
    """What the book does not have yet, in its order."""
    book_id: str = ""
    """The book of which the rest is known."""
    noted: dict[str, None] = attrs.Factory(dict)
    """The users that it has."""
    lost: dict[str, None] = attrs.Factory(dict)
    """The users that a book before it had, and that it does not have yet."""
    is_unanswered: bool = False
    """Whether changes are on their way."""

    def change(self, user: str, fields: msgspec.Raw | None) -> None:
        if fields is None:
            self.present.pop(user, None)
        else:
            self.present[user] = fields
        self.changes.append((user, fields))

    def take_changes(self) -> list[Change]:
        changes, self.changes = self.changes[:CHANGES_AT_ONCE], self.changes[CHANGES_AT_ONCE:]
        return changes

    def note_all(self, unanswered: Sequence[Change] = ()) -> None:
        """Let the next changes lead to the present state, whether the book has the `unanswered` ones or not."""
        named = (user for user, _ in [*unanswered, *self.changes])
        known = dict.fromkeys([*self.noted, *self.lost, *named])
        gone = ((user, None) for user in known if user not in self.present)
        self.changes = [*self.present.items(), *gone]

    def arguments(self, changes: Sequence[Change]) -> list[str | bytes | int]:
        """Return changes as arguments of the script `attend`."""
        arguments: list[str | bytes | int] = []
        named = set[str]()
        for user, fields in changes:
            before = "" if user in named else "lost" if user in self.lost else "noted" * (user in self.noted)
            how = "left" if fields is None else "came"
            arguments += (user, how, before, bytes(NO_FIELDS if fields is None else fields))
            named.add(user)
        return arguments

    def note(self, changes: Sequence[Change], book_id: str) -> None:
        """Note that the book with this id has changes."""
        if book_id != self.book_id:
            self.lost |= self.noted
            self.noted = {}
            self.book_id = book_id
        for user, fields in changes:
            self.lost.pop(user, None)
            if fields is None:
                self.noted.pop(user, None)
            else:
                self.noted[user] = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to know of it."""
        return not (self.present or self.noted or self.lost or self.changes)


class AttendanceWriter:
    """Writes the book of one server; `run` it in a nursery."""

    def __init__(
        self,
        link: Link,
        scripts: Scripts,
        keyspace: Keyspace,
        queues: QueuesAtPlaces,
        *,
        node: str,
        lease_ms: int,
        now_ms: Callable[[], int],
    ) -> None:
        self._link = link
        self._scripts = scripts
        self._keyspace = keyspace
        self._node = node
        self._lease_ms = lease_ms
        self._now_ms = now_ms
        self._pack_book = lru_cache(MOST_CACHED_ROOMS)(partial(pack_book, keyspace, queues))
        self._places: dict[str, _Place] = {}
        self._dirty: dict[str, None] = {}
        self._wakeup = Wakeup()
        self._has_lease = False
        self._is_written = True
        self._written = Wakeup()
        self._renewed = Wakeup()

    def change(self, place: str, user: str, fields: msgspec.Raw | None) -> None:
        """Note that a user came, with the fields of its entry, or left (None)."""
        self._places.setdefault(place, _Place()).change(user, fields)
        self._mark_dirty(place)

    def lease_renewed(self, *, had_none: bool) -> None:
        """Note that this node has a lease. If it had none, other nodes may have removed its users: note all anew."""
        self._has_lease = True
        if had_none:
            for place, found in self._places.items():
                if found.noted or found.lost or found.is_unanswered:
                    found.note_all()
                    self._mark_dirty(place)
        self._wakeup.set()
        self._renewed.set()

    async def wait_written(self) -> None:
        """Wait until the book has everything."""
        while not self._is_written:
            await self._written.wait()

    async def run(self) -> None:
        """Write changes, and remove the users of dead nodes, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._bury_dead)
            while True:
                await self._wakeup.wait()
                while self._dirty and self._has_lease:
                    await self._write_some()
                if not self._dirty:
                    self._is_written = True
                    self._written.set()

    async def _write_some(self) -> None:
        places = list(islice(self._dirty, PLACES_AT_ONCE))
        failures: list[EngineUnavailableError] = []
        async with trio.open_nursery() as nursery:
            for place in places:
                del self._dirty[place]
                nursery.start_soon(self._write, place, failures)
        if failures:
            await trio.sleep(RETRY_SECONDS)

    async def _write(self, place: str, failures: list[EngineUnavailableError]) -> None:
        found = self._places[place]
        changes = found.take_changes()
        found.is_unanswered = True
        try:
            book_id = await self._scripts.attend.run(
                self._link,
                (self._keyspace.alive,),
                *(self._pack_book(place), self._node, self._lease_ms, self._now_ms()),
                *(found.book_id, token_hex(8), place, *found.arguments(changes)),
                parse=parse_text,
            )
        except EngineUnavailableError as error:
            # The script may have run all the same.
            failures.append(error)
            found.note_all(changes)
        else:
            if book_id:
                found.note(changes, book_id)
            else:
                self._has_lease = False
                found.note_all(changes)
        found.is_unanswered = False
        if found.changes:
            self._mark_dirty(place)
        elif found.is_empty:
            del self._places[place]
            # A renewed lease may have asked for all that is known, and there is nothing.
            self._dirty.pop(place, None)

    async def _bury_dead(self) -> None:
        """After each renewal of this node's lease remove the users of nodes that have lost theirs."""
        keyspace = self._keyspace
        while True:
            await self._renewed.wait()
            with suppress(EngineUnavailableError):
                lost = await self._scripts.lost_nodes.run(
                    *(self._link, (keyspace.alive, keyspace.book_nodes), self._lease_ms), parse=parse_names
                )
                for node in lost:
                    await self._bury(node)

    async def _bury(self, node: str) -> None:
        """Remove the users of a node, for as long as it has no lease."""
        places = self._keyspace.book_places(node)
        while True:
            some = await self._link.request("SRANDMEMBER", places, PLACES_AT_ONCE, parse=parse_names)
            if not some:
                return
            for place in some:
                left = 1
                while left:
                    left = await self._scripts.bury.run(
                        self._link,
                        (self._keyspace.alive,),
                        *(self._pack_book(place), node, self._lease_ms, self._now_ms()),
                        *(place, CHANGES_AT_ONCE),
                        parse=parse_left_in_book,
                    )
                    if left < 0:
                        return

    def _mark_dirty(self, place: str) -> None:
        self._dirty[place] = None
        self._is_written = False
        self._wakeup.set()


class RedisAttendance(Attendance):
    """See Attendance; the book of a place is on the server of its name."""

    def __init__(
        self, writers: Sequence[AttendanceWriter], index_of: Callable[[str], int], queues: QueuesAtPlaces
    ) -> None:
        """`index_of` returns the index of the writer of a room or a user, by its name."""
        self._writers = writers
        self._index_of = index_of
        self._queues = queues

    def came(self, place: str, user_id: str, info: bytes | None) -> None:
        """See Attendance."""
        if self._queues.want(place):
            self._writer(place).change(place, user_id, info_fields(info))

    def left(self, place: str, user_id: str) -> None:
        """See Attendance."""
        if self._queues.want(place):
            self._writer(place).change(place, user_id, None)

    def _writer(self, place: str) -> AttendanceWriter:
        return self._writers[self._index_of(name_of_place(place))]

    async def wait_written(self) -> None:
        """See Attendance."""
        for writer in self._writers:
            await writer.wait_written()
