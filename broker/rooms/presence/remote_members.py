"""The members of a room on other nodes, as known to this node. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum, auto

import attrs

from broker.engine.presence import RemoteChange, RemotePresence
from broker.model import Shown


class Kind(Enum):
    """The change of one member."""

    JOINED = auto()
    LEFT = auto()
    UPDATED = auto()


@attrs.frozen
class MemberChange:
    """One connection that joined, left or shows something else on another node."""

    kind: Kind
    shown: Shown
    size: int
    """Connections on all other nodes after the change."""


@attrs.define
class _Node:
    version: int
    members: dict[str, Shown] = attrs.Factory(dict)


class RemoteMembers:
    """Knows the members by node and connection; its methods return each change exactly once."""

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
        """The other nodes that have members in the room."""
        return frozenset(name for name, node in self._nodes.items() if node.members)

    def __iter__(self) -> Iterator[Shown]:
        """Iterate over all members."""
        for node in self._nodes.values():
            yield from node.members.values()

    def users(self) -> Mapping[str, int]:
        """Return all users, with their connections."""
        return Counter(shown.user_id for shown in self)

    def apply(self, change: RemoteChange) -> list[MemberChange] | None:
        """Apply a change of another node; None if a change before it was missed, and a snapshot must be read."""
        node = self._nodes.get(change.node)
        if change.version <= (self._floor if node is None else node.version):
            return []
        if change.follows == 0:
            return self._replace(
                change.node,
                change.version,
                {connection: shown for connection, shown in change.members.items() if shown is not None},
            )
        if node is None or node.version != change.follows:
            return None
        node.version = change.version
        return self._update(node, change.members.items())

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
            changes += self._replace(name, node.version, node.members)
        return changes, was_lost

    def _replace(self, name: str, version: int, members: Mapping[str, Shown]) -> list[MemberChange]:
        node = self._nodes.setdefault(name, _Node(version))
        node.version = version
        gone = [connection for connection in node.members if connection not in members]
        return self._update(node, [*((connection, None) for connection in gone), *members.items()])

    def _update(self, node: _Node, members: Iterable[tuple[str, Shown | None]]) -> list[MemberChange]:
        changes: list[MemberChange] = []
        for connection, shown in members:
            before = node.members.get(connection)
            if shown is None:
                if before is not None:
                    del node.members[connection]
                    self._size -= 1
                    changes.append(MemberChange(Kind.LEFT, before, self._size))
                continue
            node.members[connection] = shown
            if before is None:
                self._size += 1
                changes.append(MemberChange(Kind.JOINED, shown, self._size))
            elif before != shown:
                changes.append(MemberChange(Kind.UPDATED, shown, self._size))
        return changes
