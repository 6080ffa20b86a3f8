"""The state of a room that outlives a failure of its actor, and its options."""

import math

import attrs
import trio

from broker.clocks import Clock
from broker.engine.base import Retention
from broker.model import Position
from broker.rooms.fanout import Fanout
from broker.rooms.feed_subscription import FeedSubscription
from broker.rooms.messages import RoomInfo
from broker.rooms.pending_append import PendingAppend
from broker.rooms.presence.room_presence import RoomPresence
from broker.rooms.presence.roster import Roster
from broker.rooms.time_slice import TIME_SLICE_SECONDS

LENT_TURNS = 16
"""Most turns that a room lends to its senders within one time slice."""


@attrs.define
class RoomState:
    """State shared by all incarnations of a room: its members, and the position up to which they have events."""

    name: str
    presence: RoomPresence
    fanout: Fanout
    subscription: FeedSubscription
    clock: Clock = trio.current_time
    """Trio's."""
    roster: Roster = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.presence.roster, takes_self=True)
    )
    """The members on this node."""
    delivered: Position | None = None
    """All members have the events up to here, in their outboxes or in the queue of `fanout`."""
    messages_sent: int = 0
    """Messages sent to the members since the room was started, ephemeral ones included."""

    pending_append: PendingAppend | None = None

    lent_turns: int = 0
    """Turns lent in the time slice that began at `lent_since`."""
    lent_since: float = -math.inf
    """Trio time of the first of them."""

    def can_lend(self, now: float) -> bool:
        """Whether the room may lend one more turn at `now` (trio time); counts it.

        A burst of one sender would hold all other tasks up. After LENT_TURNS in TIME_SLICE_SECONDS it waits in the
        mailbox, where it is also joined into one append and one frame for each member.
        """
        if now - self.lent_since >= TIME_SLICE_SECONDS:
            self.lent_since, self.lent_turns = now, 0
        elif self.lent_turns >= LENT_TURNS:
            return False
        self.lent_turns += 1
        return True

    def info(self) -> RoomInfo:
        """Return a snapshot; only once the room has started."""
        assert self.delivered is not None, "the room's first start sets it"
        return RoomInfo(self.name, self.presence.size, self.delivered, self.presence.users())


@attrs.frozen
class RoomOptions:
    """The settings of one room."""

    retention: Retention
    gather_seconds: float
    page_messages: int
    """Events in one read from the engine."""
    page_bytes: int
    """Content of the events in one answer; more events follow as messages of their own, or need another request."""
    recovery_bytes: int
    """Content of the missed events that one join sends."""
    max_members: int | None = None
    """Users' connections that may be in the room; None for no limit."""
    holds_back: bool = False
    """Whether outboxes may hold back events of this room."""
