"""When a silent connection is pinged, and when it is given up. Pure."""

from enum import Enum

import attrs


class LivenessAction(Enum):
    """What a look at a connection tells to do."""

    NONE = "none"
    PING = "ping"
    DISCONNECT = "disconnect"


@attrs.define
class Liveness:
    """Watches one connection's silence; any byte from the peer is a sign of life. Times are trio's, in seconds."""

    ping_seconds: float
    pong_seconds: float
    pinged_at: float | None = None

    def next_action(self, now: float, last_received: float) -> LivenessAction:
        """Decide what to do, given when the peer was last heard."""
        if self.pinged_at is not None and last_received < self.pinged_at:
            return (
                LivenessAction.DISCONNECT
                if now - self.pinged_at >= self.pong_seconds
                else LivenessAction.NONE
            )
        if now - last_received < self.ping_seconds:
            return LivenessAction.NONE
        self.pinged_at = now
        return LivenessAction.PING
