"""Announces this node's members to the other nodes, through one server.

Changes made while an announcement is in flight are announced together in the next one. If anything is lost, on this
node or in Redis, all of a room's members are announced again.
"""

from collections import Counter
from functools import partial
from itertools import islice

import attrs
import trio

from broker.engine.redis.client.link import Link
from broker.engine.redis.keyspace import Keyspace
from broker.engine.redis.replies import pack_member, parse_announced_version
from broker.engine.redis.scripts import Script
from broker.errors import EngineUnavailableError
from broker.model import Shown
from broker.wakeup import Wakeup

KEEP_MS = 3_600_000
"""How long Redis keeps a node's members if no other node removes them."""

REFRESH_SECONDS = 1200.0
"""How often unchanged members are announced again, well before KEEP_MS is over."""

ROOMS_AT_ONCE = 100
RETRY_SECONDS = 0.5


@attrs.define(eq=False)
class _Entry:
    """The members of this node in one room."""

    members: dict[str, Shown] = attrs.Factory(dict)
    """By connection."""
    counts: Counter[str] = attrs.Factory(Counter)
    """Connections by user."""
    changed: dict[str, str] = attrs.Factory(dict)
    """Connections with a change that was not announced yet, in order, with their users."""
    version: int = 0
    """The version announced last; 0 if the next announcement has to hold all members."""

    def set_member(self, connection: str, shown: Shown | None) -> None:
        before = self.members.pop(connection, None)
        if before is not None:
            self.counts[before.user_id] -= 1
            self.changed[connection] = before.user_id
        if shown is not None:
            self.members[connection] = shown
            self.counts[shown.user_id] += 1
            self.changed[connection] = shown.user_id
        if before is not None and not self.counts[before.user_id]:
            del self.counts[before.user_id]

    def take_changes(self) -> list[str | bytes | int]:
        """Return what is to be announced as arguments of the script: the users' connections, and the members."""
        connections = list(self.changed if self.version else self.members)
        users = set(self.changed.values()) if self.version else self.counts
        arguments: list[str | bytes | int] = [len(users)]
        for user in users:
            arguments += (user, self.counts[user])
        for connection in connections:
            arguments += (connection, pack_member(self.members.get(connection)))
        self.changed = {}
        return arguments


class PresenceAnnouncer:
    """Announces this node's members; `run` it in a nursery."""

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

    def set_member(self, room: str, connection: str, shown: Shown | None) -> None:
        """Set what a member of a room on this node shows, None if it left, and announce it."""
        self._entries.setdefault(room, _Entry()).set_member(connection, shown)
        self._mark_dirty(room)

    def clear(self, room: str) -> None:
        """Set that every member of a room left, and announce it."""
        for connection in list(self._entries.get(room, _Entry()).members):
            self.set_member(room, connection, None)

    def lease_renewed(self, *, had_none: bool) -> None:
        """Note that this node has a lease. If it had none, other nodes may have removed its members: announce all."""
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
        follows, changes = entry.version, entry.take_changes()
        keys = self._keyspace.room(room)
        try:
            version = await self._script.run(
                self._link,
                (
                    *(keys.nodes, keys.users + self._node, keys.members + self._node),
                    *(self._keyspace.alive, self._keyspace.rooms),
                ),
                *(self._node, self._lease_ms, KEEP_MS, keys.channel, follows),
                *(room, len(entry.members)),
                *changes,
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
        elif not entry.members:
            # The script has removed the node from the room: the next announcement holds all members.
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
