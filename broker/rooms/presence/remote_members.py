"""The members of a room on other nodes, as known to this node. Pure."""

from collections import Counter
from collections.abc import Mapping

import attrs

from broker.engine.presence import RemoteChange, RemotePresence


@attrs.frozen
class MemberChange:
    """One connection that joined or left on another node."""

    user_id: str
    is_join: bool
    size: int
    """Connections on all other nodes after the change."""


@attrs.define
class _Node:
    version: int
    counts: dict[str, int] = attrs.Factory(dict)


class RemoteMembers:
    """Counts connections by user and node; its methods return each join and leave exactly once."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._floor = 0  # all changes up to this version are known
        self._store_id: str | None = None
        self._size = 0

    @property
    def size(self) -> int:
        """Connections on all other nodes."""
        return self._size

    @property
    def nodes(self) -> frozenset[str]:
        """The other nodes that have users in the room."""
        return frozenset(name for name, node in self._nodes.items() if node.counts)

    def users(self) -> Mapping[str, int]:
        """Return all users, with their connections."""
        users: Counter[str] = Counter()
        for node in self._nodes.values():
            users.update(node.counts)
        return users

    def apply(self, change: RemoteChange) -> list[MemberChange] | None:
        """Apply a change of another node; None if a change before it was missed, and a snapshot must be read."""
        node = self._nodes.get(change.node)
        if change.version <= (self._floor if node is None else node.version):
            return []
        if change.follows == 0:
            return self._replace(change.node, change.version, change.counts)
        if node is None or node.version != change.follows:
            return None
        # In the order in which they were changed.
        changed = {user: node.counts[user] for user in node.counts if user not in change.counts}
        return self._replace(change.node, change.version, changed | dict(change.counts))

    def replace(self, snapshot: RemotePresence) -> tuple[list[MemberChange], bool]:
        """Apply a snapshot of all other nodes; returns the changes, and whether to read again after one lease.

        If the engine lost its presence data since the last snapshot (a new `store_id`), nodes missing from this one are
        kept: they announce themselves again within a lease. The reading after that drops those that did not.
        """
        was_lost = self._store_id not in {None, snapshot.store_id}
        self._store_id = snapshot.store_id
        self._floor = snapshot.version
        changes: list[MemberChange] = []
        if not was_lost:
            for name in self._nodes.keys() - snapshot.nodes.keys():
                changes += self._replace(name, snapshot.version, {})
                del self._nodes[name]
        for name, node in snapshot.nodes.items():
            changes += self._replace(name, node.version, node.counts)
        return changes, was_lost

    def _replace(self, name: str, version: int, counts: Mapping[str, int]) -> list[MemberChange]:
        node = self._nodes.setdefault(name, _Node(version))
        before, node.version = node.counts, version
        node.counts = {user: count for user, count in counts.items() if count}
        changes = []
        for user in (*(user for user in before if user not in counts), *counts):
            difference = counts.get(user, 0) - before.get(user, 0)
            step = 1 if difference > 0 else -1
            for _ in range(abs(difference)):
                self._size += step
                changes.append(MemberChange(user, is_join=step > 0, size=self._size))
        return changes
