"""The open connections of this node, by user."""

from collections.abc import Iterator
from typing import Protocol

import trio

from broker.errors import CloseCode


class Connection(Protocol):
    """What others may do to an open, authenticated connection."""

    @property
    def user_id(self) -> str:
        """Whose connection it is."""
        ...

    @property
    def queued_bytes(self) -> int:
        """How much waits for its peer to read."""
        ...

    def check(self, now: float, wall_now: float) -> None:
        """Ping it, or begin to end it, if the time has come; `now` is trio's time, `wall_now` Unix seconds."""
        ...

    def send_reconnect(self, after_ms: int) -> None:
        """Ask its peer to come back later."""
        ...

    def disconnect(self, code: CloseCode, reason: str) -> None:
        """Begin to end it; the first reason given counts."""
        ...


class Connections:
    """Knows every open connection, and how many each user may have."""

    def __init__(self, per_user: int) -> None:
        self._per_user = per_user
        self._by_user: dict[str, dict[Connection, None]] = {}
        self._count = 0
        self._emptied = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        """How many connections are open."""
        return self._count

    def __iter__(self) -> Iterator[Connection]:
        """Iterate over a snapshot of the connections."""
        return iter([connection for group in self._by_user.values() for connection in group])

    def add(self, connection: Connection) -> bool:
        """Take a connection in; returns False, and does not, if its user has as many as it may."""
        group = self._by_user.setdefault(connection.user_id, {})
        if len(group) >= self._per_user:
            return False
        group[connection] = None
        self._count += 1
        return True

    def discard(self, connection: Connection) -> None:
        """Forget a connection; nothing happens if it was not taken in."""
        group = self._by_user.get(connection.user_id, {})
        if connection in group:
            del group[connection]
            self._count -= 1
            if not group:
                del self._by_user[connection.user_id]
            if not self._count:
                self._emptied.unpark_all()

    def __contains__(self, connection: Connection) -> bool:
        """Whether a connection is open."""
        return connection in self._by_user.get(connection.user_id, ())

    async def wait_empty(self) -> None:
        """Wait until no connection is open."""
        while self._count:
            await self._emptied.park()

    def disconnect_user(self, user_id: str, code: CloseCode, reason: str) -> int:
        """Begin to end all connections of a user; returns how many there are."""
        group = list(self._by_user.get(user_id, ()))
        for connection in group:
            connection.disconnect(code, reason)
        return len(group)
