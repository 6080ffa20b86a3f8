"""The server of each room, by consistent hashing. Pure.

Each server owns many arcs of a ring of hashes, and a room belongs to the arc in which its own hash lies. A server
that is added takes a share of the rooms from each of the others, and no room moves between those.
"""

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b

ARCS_PER_SERVER = 160
"""Enough that shares differ by some ten percent."""


class Ring:
    """The ring of servers, by their names; the order of the names does not matter."""

    def __init__(self, names: Sequence[str]) -> None:
        arcs = sorted(
            (_hash(f"{name}#{arc}"), index)
            for index, name in enumerate(names)
            for arc in range(ARCS_PER_SERVER)
        )
        self._ends = [end for end, _ in arcs]
        self._owners = [owner for _, owner in arcs]

    def index_of(self, room: str) -> int:
        """Return the index, in the names given, of a room's server."""
        return self._owners[bisect_right(self._ends, _hash(room)) % len(self._owners)]


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
