"""Takes tokens back: on all nodes, on live connections, and for as long as the tokens could be used."""

import attrs
import trio

from broker.auth.revocations import MOST_REVOCATIONS, Revocation, RevocationTable
from broker.engine.revocations import RevocationStore
from broker.errors import CloseCode, EngineUnavailableError, ErrorCode, RefusalReason, Refused
from broker.model import WallClock
from broker.sessions.connections import Connection, Connections
from broker.wakeup import Wakeup

RETRY_SECONDS = 1.0
ADDED_PER_TURN = 1000
"""Revocations that are added without a pause, so that nothing waits for long."""


@attrs.define(eq=False)
class Revocations:
    """The revocations of a node: stores those that it is asked for, and applies those of all nodes.

    Without a store, as with an engine of the program's own that keeps none, they hold on this node until it ends.
    """

    _table: RevocationTable
    _store: RevocationStore | None
    _connections: Connections
    _wall_clock: WallClock
    _most: int = MOST_REVOCATIONS
    _fell_behind: Wakeup = attrs.field(factory=Wakeup, init=False)

    async def revoke(self, revocation: Revocation) -> None:
        """Store a revocation and close the live connections that it means; other nodes close theirs as they hear of it.

        If cancelled, it may hold all the same. It may be repeated.

        :raises Refused: if as many hold as may.
        :raises EngineUnavailableError: if it was not stored; whether it holds is not known then.
        """
        if revocation.key not in self._table and len(self._table) >= self._most:
            message = f"{self._most:,} revocations hold already, and none is forgotten early"
            raise Refused(ErrorCode.UNAVAILABLE, message, why=RefusalReason.REVOCATIONS_FULL)
        if self._store is not None:
            await self._store.store(revocation, now=self._wall_clock())
        self.apply(revocation)

    def apply(self, revocation: Revocation) -> None:
        """Let a revocation hold on this node, from now on and for the connections that are open."""
        self._table.add(revocation)
        for connection in self._connections.bearers(revocation):
            _close(connection)

    async def load(self) -> None:
        """Apply all revocations that are stored.

        :raises EngineUnavailableError: if they cannot be read.
        """
        if self._store is None:
            return
        for number, revocation in enumerate(await self._store.read(now=self._wall_clock()), 1):
            self._table.add(revocation)
            if number % ADDED_PER_TURN == 0:
                await trio.lowlevel.checkpoint()
        for connection in self._connections:
            if connection.claims is not None and self._table.revokes(connection.claims):
                _close(connection)

    async def follow(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the store until cancelled. It has started once the stored ones are loaded, or cannot be for now."""
        if self._store is not None:
            self._store.on_revocation(self._note)
        is_loaded = await self._try_load()
        task_status.started()
        while True:
            if is_loaded:
                await self._fell_behind.wait()
            else:
                await trio.sleep(RETRY_SECONDS)
            is_loaded = await self._try_load()

    async def _try_load(self) -> bool:
        try:
            await self.load()
        except EngineUnavailableError:
            return False
        return True

    def _note(self, revocation: Revocation | None) -> None:
        if revocation is None:
            self._fell_behind.set()
        else:
            self.apply(revocation)


def _close(connection: Connection) -> None:
    connection.disconnect(CloseCode.UNAUTHORIZED, "token was revoked", why=RefusalReason.TOKEN_REVOKED)
