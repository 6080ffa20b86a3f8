"""What this node tells the others of its users, at one server.

The board knows who is in which room here, and tells what has changed as soon as it can: what changes while something
is on its way is told together next. Should anything be lost, here or there, it tells everything.
"""

from functools import partial
from itertools import islice

import attrs
import trio

from broker.engine.redis.keys import Names
from broker.engine.redis.link import Link
from broker.engine.redis.replies import parse_board_version
from broker.engine.redis.scripts import Script
from broker.errors import EngineUnavailableError

KEEP_MS = 3_600_000
"""How long the users of a node that nobody buries are remembered."""

REFRESH_SECONDS = 1200.0
"""How often what has not changed is told again, well before it is forgotten."""

ROOMS_AT_ONCE = 100
RETRY_SECONDS = 0.5


@attrs.define(eq=False)
class _Entry:
    """The users of this node in one room."""

    counts: dict[str, int] = attrs.Factory(dict)
    changed: dict[str, None] = attrs.Factory(dict)
    """Of whom something is to be told that was not, in order."""
    version: int = 0
    """What was told last; 0 if everything is to be told."""


class Board:
    """Tells of this node's users; `run` it in a nursery."""

    def __init__(self, link: Link, script: Script, names: Names, *, node: str, lease_ms: int) -> None:
        self._link = link
        self._script = script
        self._names = names
        self._node = node
        self._lease_ms = lease_ms
        self._entries: dict[str, _Entry] = {}
        self._dirty: dict[str, None] = {}
        self._work = trio.Event()
        self._has_lease = trio.Event()
        self._told = trio.Event()
        self._told.set()

    def set_count(self, room: str, user_id: str, connections: int) -> None:
        """Tell how many connections a user has in a room here."""
        entry = self._entries.setdefault(room, _Entry())
        if connections:
            entry.counts[user_id] = connections
        else:
            entry.counts.pop(user_id, None)
        entry.changed.pop(user_id, None)
        entry.changed[user_id] = None
        self._note(room)

    def clear(self, room: str) -> None:
        """Tell that nobody is in a room here."""
        for user_id in list(self._entries.get(room, _Entry()).counts):
            self.set_count(room, user_id, 0)

    def renewed(self, *, had_none: bool) -> None:
        """Hear that this node has a lease. If it had none, others may have buried its users."""
        self._has_lease.set()
        if had_none:
            self._tell_everything()

    async def run(self) -> None:
        """Tell what is to be told, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._refresh)
            while True:
                await self._work.wait()
                self._work = trio.Event()
                while self._dirty:
                    await self._has_lease.wait()
                    await self._tell_some()
                self._told.set()

    async def wait_told(self) -> None:
        """Wait until the others have been told everything."""
        await self._told.wait()

    async def _tell_some(self) -> None:
        rooms = list(islice(self._dirty, ROOMS_AT_ONCE))
        failures: list[EngineUnavailableError] = []
        async with trio.open_nursery() as nursery:
            for room in rooms:
                del self._dirty[room]
                nursery.start_soon(partial(self._tell, room, failures))
        if failures:
            await trio.sleep(RETRY_SECONDS)

    async def _tell(self, room: str, failures: list[EngineUnavailableError]) -> None:
        entry = self._entries[room]
        users = list(entry.changed if entry.version else entry.counts)
        told: list[str | int] = []
        for user in users:
            told += (user, entry.counts.get(user, 0))
        follows, entry.changed = entry.version, {}
        names = self._names.room(room)
        try:
            version = await self._script.run(
                self._link,
                (names.nodes, names.users + self._node, self._names.alive, self._names.rooms),
                *(self._node, self._lease_ms, KEEP_MS, names.channel, follows),
                *(room, sum(entry.counts.values())),
                *told,
                parse=parse_board_version,
            )
        except EngineUnavailableError as error:
            # It may have been told all the same.
            failures.append(error)
            version = 0
        if version == -1:
            self._has_lease = trio.Event()
        entry.version = max(version, 0)
        if entry.version == 0:
            self._note(room)
        elif not entry.counts:
            # Whoever comes next is told of with everything.
            entry.version = 0
            if room not in self._dirty:
                del self._entries[room]

    async def _refresh(self) -> None:
        while True:
            await trio.sleep(REFRESH_SECONDS)
            for room in self._entries:
                self._note(room)

    def _tell_everything(self) -> None:
        for room, entry in self._entries.items():
            entry.version = 0
            self._note(room)

    def _note(self, room: str) -> None:
        self._dirty[room] = None
        if self._told.is_set():
            self._told = trio.Event()
        self._work.set()
