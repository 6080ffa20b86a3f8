"""The services that all sessions share."""

import time
from collections.abc import Callable
from functools import partial

import attrs

from broker.auth.permissions import AccessPolicy
from broker.auth.tokens import TokenVerifier
from broker.clocks import Clock, trio_clock
from broker.config.settings import Settings
from broker.hooks.hooks import Hooks
from broker.model import Claims, Shown, WallClock
from broker.rooms.directory import Rooms, shows_presence_data
from broker.sessions.allowance import Allowances
from broker.sessions.connections import ConnectionIds


@attrs.define
class SessionServices:
    """The services that all sessions share; a reload replaces the settings and the verifier."""

    settings: Settings
    rooms: Rooms
    policy: AccessPolicy
    verifier: TokenVerifier
    allowances: Allowances = attrs.field(
        default=attrs.Factory(lambda self: Allowances(self.settings), takes_self=True)
    )
    """The allowances of users, over connections of all protocols."""
    connection_ids: ConnectionIds = attrs.field(factory=ConnectionIds)
    wall_clock: WallClock = time.time
    clock: Clock = attrs.field(factory=trio_clock)
    """Trio's, shared, as it is read for each message."""
    shows_data: Callable[[str], bool] = attrs.field(
        default=attrs.Factory(lambda self: partial(shows_presence_data, self.settings), takes_self=True)
    )
    """Whether a room shows info and state. As the rooms do, it keeps to the settings of the start."""

    hooks: Hooks | None = None
    """The decisions of the application; None if it is asked about nothing."""

    def make_shown(self, claims: Claims, connection: str | None = None) -> Shown:
        """Return what a new connection shows, with an id of its own if it has none yet."""
        since_ms = int(self.wall_clock() * 1000)
        return Shown(claims.user_id, connection or self.connection_ids.make(), since_ms, claims.info)
