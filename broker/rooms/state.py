"""What a room is between the messages, and across failures of its actor."""

import attrs

from broker.engine.base import Retention
from broker.model import Position
from broker.rooms.fanout import Fanout
from broker.rooms.feed_subscription import FeedSubscription
from broker.rooms.messages import RoomInfo
from broker.rooms.presence.room_presence import RoomPresence
from broker.rooms.presence.roster import Roster


@attrs.define
class RoomState:
    """What outlives a failure of the room's actor: who is in, and how far they have been told."""

    name: str
    presence: RoomPresence
    fanout: Fanout
    subscription: FeedSubscription
    delivered: Position | None = None
    """Everyone in the room has been told all up to here, or `fanout` is about to."""
    said: int = 0
    """Messages told since the room came up, ephemeral ones too."""

    @property
    def roster(self) -> Roster:
        """Who is in the room on this node."""
        return self.presence.roster

    def info(self) -> RoomInfo:
        """Return the room as it stands; only once it has started."""
        assert self.delivered is not None, "the room's first start sets it"
        return RoomInfo(self.name, self.presence.size, self.delivered, self.presence.users())


@attrs.frozen
class RoomOptions:
    """What a room needs to know besides its name."""

    retention: Retention
    gather_seconds: float
    page_messages: int
    """How many events are read from the engine at once."""
    page_bytes: int
    """How much of the events one answer holds; the rest follows as messages of their own, or is to be asked for."""
    recovery_bytes: int
    """How much of what was missed one join sends."""
