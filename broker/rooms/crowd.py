"""Who is in a room on other nodes, as far as this one has been told. Pure."""

from collections import Counter
from collections.abc import Mapping

import attrs

from broker.engine.presence import CrowdChange, Crowds


@attrs.frozen
class Passage:
    """One connection that came or went on another node."""

    user_id: str
    is_coming: bool
    size: int
    """Of the crowd, after it."""


@attrs.define
class _Node:
    version: int
    counts: dict[str, int] = attrs.Factory(dict)


class Crowd:
    """The users of all other nodes. What it returns is told to those here: each coming and going once."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._floor = 0  # everything up to this version has been seen
        self._board: str | None = None
        self._size = 0

    @property
    def size(self) -> int:
        """How many connections there are."""
        return self._size

    @property
    def nodes(self) -> frozenset[str]:
        """The nodes that have users here."""
        return frozenset(name for name, node in self._nodes.items() if node.counts)

    def users(self) -> Mapping[str, int]:
        """Return all users, with their connections."""
        users: Counter[str] = Counter()
        for node in self._nodes.values():
            users.update(node.counts)
        return users

    def apply(self, change: CrowdChange) -> list[Passage] | None:
        """Take what a node has told; None if something before it was missed, and everything is to be read."""
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

    def replace(self, crowds: Crowds) -> tuple[list[Passage], bool]:
        """Take everything as it was read, and return whether to read it again after a lease.

        Where all that nodes had told was lost since the last time, those who are not there now are about to tell
        it again: they have not left, unless the next reading does not show them either.
        """
        is_anew = self._board not in {None, crowds.board}
        self._board = crowds.board
        self._floor = crowds.version
        passages: list[Passage] = []
        if not is_anew:
            for name in self._nodes.keys() - crowds.nodes.keys():
                passages += self._replace(name, crowds.version, {})
                del self._nodes[name]
        for name, told in crowds.nodes.items():
            passages += self._replace(name, told.version, told.counts)
        return passages, is_anew

    def _replace(self, name: str, version: int, counts: Mapping[str, int]) -> list[Passage]:
        node = self._nodes.setdefault(name, _Node(version))
        before, node.version = node.counts, version
        node.counts = {user: count for user, count in counts.items() if count}
        passages = []
        for user in (*(user for user in before if user not in counts), *counts):
            difference = counts.get(user, 0) - before.get(user, 0)
            step = 1 if difference > 0 else -1
            for _ in range(abs(difference)):
                self._size += step
                passages.append(Passage(user, is_coming=step > 0, size=self._size))
        return passages
