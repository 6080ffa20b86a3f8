"""The consequences of each renewal of this node's lease at one server."""

from collections.abc import Sequence

from broker.engine.feed import FeedListener
from broker.engine.redis.presence.announcer import PresenceAnnouncer
from broker.engine.redis.presence.attendance import AttendanceWriter


class NodeWatch:
    """Tells the announcers of each renewal, and the rooms of nodes that have died."""

    def __init__(self, announcer: PresenceAnnouncer, attendance: AttendanceWriter | None = None) -> None:
        self._announcer = announcer
        self._attendance = attendance
        self._dead: frozenset[str] = frozenset()
        self.listeners: dict[str, FeedListener] = {}
        """The listeners of this server's rooms, by room."""

    def lease_renewed(self, had_none: bool, dead: Sequence[str]) -> None:
        """Handle a renewal. `had_none`: the node had no lease before; `dead`: nodes whose leases ran out of late."""
        self._announcer.lease_renewed(had_none=had_none)
        if self._attendance is not None:
            self._attendance.lease_renewed(had_none=had_none)
        newly_dead = frozenset(dead) - self._dead
        self._dead = frozenset(dead)
        for node in newly_dead:
            for listener in list(self.listeners.values()):
                listener.node_lost(node)
