"""The state of a room that outlives a failure of its actor, and its options."""

import math

import attrs

from broker.engine.base import Retention
from broker.model import Position
from broker.rooms.fanout import Fanout
from broker.rooms.feed_subscription import FeedSubscription
from broker.rooms.messages import RoomInfo
from broker.rooms.presence.room_presence import RoomPresence
from broker.rooms.presence.roster import Roster

LENT_TURNS = 16
LENT_SECONDS = 0.001


@attrs.define
class RoomState:
    """State shared by all incarnations of a room: its members, and the position up to which they have events."""

    name: str
    presence: RoomPresence
    fanout: Fanout
    subscription: FeedSubscription
    delivered: Position | None = None
    """All members have the events up to here, in their outboxes or in the queue of `fanout`."""
    messages_sent: int = 0
    """Messages sent to the members since the room was started, ephemeral ones included."""

    lent_turns: int = 0
    lent_since: float = -math.inf

    def can_lend(self, now: float) -> bool:
        """Whether the room may lend one more turn at `now` (trio time); counts it.

        A burst of one sender would hold all other tasks up. After LENT_TURNS in LENT_SECONDS it waits in the mailbox,
        where it is also joined into one append and one frame for each member.
        """
        if now - self.lent_since >= LENT_SECONDS:
            self.lent_since, self.lent_turns = now, 0
        elif self.lent_turns >= LENT_TURNS:
            return False
        self.lent_turns += 1
        return True

    @property
    def roster(self) -> Roster:
        """The members on this node."""
        return self.presence.roster

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
