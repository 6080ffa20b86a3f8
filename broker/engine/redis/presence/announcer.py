"""Announces this node's users to the other nodes, through one server.

Changes made while an announcement is in flight are announced together in the next one. If anything is lost, on this
node or in Redis, all of a room's users are announced again.
"""

from functools import partial
from itertools import islice

import attrs
import trio

from broker.engine.redis.client.link import Link
from broker.engine.redis.keyspace import Keyspace
from broker.engine.redis.replies import parse_announced_version
from broker.engine.redis.scripts import Script
from broker.errors import EngineUnavailableError
from broker.wakeup import Wakeup

KEEP_MS = 3_600_000
"""How long Redis keeps a node's users if no other node removes them."""

REFRESH_SECONDS = 1200.0
"""How often unchanged users are announced again, well before KEEP_MS is over."""

ROOMS_AT_ONCE = 100
RETRY_SECONDS = 0.5


@attrs.define(eq=False)
class _Entry:
    """The users of this node in one room."""

    counts: dict[str, int] = attrs.Factory(dict)
    changed: dict[str, None] = attrs.Factory(dict)
    """Users with a change that was not announced yet, in order."""
    version: int = 0
    """The version announced last; 0 if the next announcement has to hold all users."""


class PresenceAnnouncer:
    """Announces this node's users; `run` it in a nursery."""

    def __init__(self, link: Link, script: Script, keyspace: Keyspace, *, node: str, lease_ms: int) -> None:
        self._link = link
        self._script = script
        self._keyspace = keyspace
        self._node = node
        self._lease_ms = lease_ms
        self._entries: dict[str, _Entry] = {}
        self._dirty: dict[str, None] = {}
        self._wakeup = Wakeup()
        self._has_lease = False
        self._is_current = True
        """Whether the other nodes were sent everything."""
        self._became_current = Wakeup()

    def set_count(self, room: str, user_id: str, connections: int) -> None:
        """Set how many connections a user has in a room on this node, and announce it."""
        entry = self._entries.setdefault(room, _Entry())
        if connections:
            entry.counts[user_id] = connections
        else:
            entry.counts.pop(user_id, None)
        entry.changed.pop(user_id, None)
        entry.changed[user_id] = None
        self._mark_dirty(room)

    def clear(self, room: str) -> None:
        """Set the count of every user in a room to 0, and announce it."""
        for user_id in list(self._entries.get(room, _Entry()).counts):
            self.set_count(room, user_id, 0)

    def lease_renewed(self, *, had_none: bool) -> None:
        """Note that this node has a lease. If it had none, other nodes may have removed its users: announce all."""
        self._has_lease = True
        if had_none:
            for room, entry in self._entries.items():
                entry.version = 0
                self._mark_dirty(room)
        self._wakeup.set()

    async def run(self) -> None:
        """Announce changes until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._refresh)
            while True:
                await self._wakeup.wait()
                while self._dirty and self._has_lease:
                    await self._announce_some()
                if not self._dirty:
                    self._is_current = True
                    self._became_current.set()

    async def wait_announced(self) -> None:
        """Wait until everything was announced."""
        while not self._is_current:
            await self._became_current.wait()

    async def _announce_some(self) -> None:
        rooms = list(islice(self._dirty, ROOMS_AT_ONCE))
        failures: list[EngineUnavailableError] = []
        async with trio.open_nursery() as nursery:
            for room in rooms:
                del self._dirty[room]
                nursery.start_soon(partial(self._announce, room, failures))
        if failures:
            await trio.sleep(RETRY_SECONDS)

    async def _announce(self, room: str, failures: list[EngineUnavailableError]) -> None:
        entry = self._entries[room]
        users = list(entry.changed if entry.version else entry.counts)
        counts: list[str | int] = []
        for user in users:
            counts += (user, entry.counts.get(user, 0))
        follows, entry.changed = entry.version, {}
        keys = self._keyspace.room(room)
        try:
            version = await self._script.run(
                self._link,
                (keys.nodes, keys.users + self._node, self._keyspace.alive, self._keyspace.rooms),
                *(self._node, self._lease_ms, KEEP_MS, keys.channel, follows),
                *(room, sum(entry.counts.values())),
                *counts,
                parse=parse_announced_version,
            )
        except EngineUnavailableError as error:
            # The script may have run all the same.
            failures.append(error)
            version = 0
        if version == -1:
            self._has_lease = False
        entry.version = max(version, 0)
        if entry.version == 0:
            self._mark_dirty(room)
        elif not entry.counts:
            # The script has removed the node from the room: the next announcement holds all users.
            entry.version = 0
            if room not in self._dirty:
                del self._entries[room]

    async def _refresh(self) -> None:
        while True:
            await trio.sleep(REFRESH_SECONDS)
            for room in self._entries:
                self._mark_dirty(room)

    def _mark_dirty(self, room: str) -> None:
        self._dirty[room] = None
        self._is_current = False
        self._wakeup.set()
