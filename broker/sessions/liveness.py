"""The decision to ping or close a silent connection. Pure."""

from enum import Enum

import attrs


class LivenessAction(Enum):
    """The action that a check of a connection asks for."""

    NONE = "none"
    PING = "ping"
    DISCONNECT = "disconnect"


@attrs.define
class Liveness:
    """Measures one connection's silence; any byte from the peer ends it. Times are trio's, in seconds."""

    ping_seconds: float
    pong_seconds: float
    pinged_at: float | None = None

    def next_action(self, now: float, last_received: float) -> LivenessAction:
        """Return the action at `now`, where the peer's last byte came at `last_received`."""
        if self.pinged_at is not None and last_received < self.pinged_at:
            is_late = now - self.pinged_at >= self.pong_seconds
            return LivenessAction.DISCONNECT if is_late else LivenessAction.NONE
        if now - last_received < self.ping_seconds:
            return LivenessAction.NONE
        self.pinged_at = now
        return LivenessAction.PING
