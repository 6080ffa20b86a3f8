"""What follows from each renewal of the node's lease at one server."""

from collections.abc import Sequence

from broker.engine.feed import FeedListener
from broker.engine.redis.board import Board


class Lease:
    """Lets the board tell everything again when the node was away, and rooms know of nodes that have died."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._dead: frozenset[str] = frozenset()
        self.listeners: dict[str, FeedListener] = {}
        """Those who listen to rooms of this server."""

    def renewed(self, had_none: bool, dead: Sequence[str]) -> None:
        """Take what a renewal has told."""
        self._board.renewed(had_none=had_none)
        newly_dead = frozenset(dead) - self._dead
        self._dead = frozenset(dead)
        for node in newly_dead:
            for listener in list(self.listeners.values()):
                listener.node_lost(node)
