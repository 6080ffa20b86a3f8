"""The open connections of this node, by user."""

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Literal, Protocol

import msgspec
import trio

from broker.auth.revocations import Revocation, RevocationKind
from broker.engine.attendance import Attendance, user_place
from broker.errors import CloseCode, RefusalReason
from broker.model import Claims
from broker.sessions.backlog import Backlog
from broker.sessions.recent_closes import RecentCloses


class ConnectionFacts(msgspec.Struct, frozen=True):
    """Further facts of a connection, for whoever asks about it."""

    id: str
    transport: Literal["websocket", "event_stream"]
    since_ms: int
    """When it began; Unix milliseconds."""
    is_visible: bool
    last_write_seconds: float | None
    """How long ago something was last sent to its peer; None where that is not known."""


class Connection(Protocol):
    """An open, authenticated connection, of whatever protocol."""

    @property
    def user_id(self) -> str:
        """The user of this connection."""
        ...

    @property
    def rooms(self) -> Sequence[str]:
        """The rooms that it is in."""
        ...

    @property
    def claims(self) -> Claims | None:
        """The claims of its newest token; None for the bearer of an API key."""
        ...

    @property
    def queued_bytes(self) -> int:
        """Bytes waiting for its peer to read."""
        ...

    def facts(self) -> ConnectionFacts:
        """Return further facts; this may ask the kernel."""
        ...

    def check(self, now: float, wall_now: float) -> None:
        """Ping or close it, if that is due; `now` is trio's time, `wall_now` Unix seconds."""
        ...

    def send_reconnect(self, after_ms: int) -> None:
        """Ask its peer to reconnect after a delay."""
        ...

    def disconnect(self, code: CloseCode, reason: str, *, why: RefusalReason | None = None) -> None:
        """Start to close it; the first call decides the code and the reason. `why` is for metrics and log."""
        ...


class ConnectionIds:
    """Names connections, each once: over all nodes and restarts, as each instance has 64 random bits of its own.

    An id is no secret: it says which connection, and gives no right to it.
    """

    def __init__(self) -> None:
        self._node = secrets.token_hex(8)
        self._numbers = count(1)

    def make(self) -> str:
        """Return an id for one more connection."""
        return f"{self._node}-{next(self._numbers)}"


class Connections:
    """All open connections, limited to `per_user` for each user.

    `attendance` notes the users who have any, hidden ones too; bearers of the API key are no users.
    """

    def __init__(
        self, per_user: int, attendance: Attendance | None = None, backlog: Backlog | None = None
    ) -> None:
        self._per_user = per_user
        self._attendance = attendance
        self._by_user: dict[str, dict[Connection, None]] = {}
        self._count = 0
        self._listeners = 0
        self._emptied = trio.lowlevel.ParkingLot()
        self.backlog = backlog or Backlog()
        """What waits for the peers of these connections to read."""
        self.recent_closes = RecentCloses()
        """The last ends of users' connections, noted by their owners."""

    def limit_users(self, per_user: int) -> None:
        """Let each user have `per_user` connections from now on; those that are open stay."""
        self._per_user = per_user

    def __len__(self) -> int:
        """Return the number of open connections."""
        return self._count

    @property
    def of_users(self) -> int:
        """The number of open connections of users: bearers of the API key only listen."""
        return self._count - self._listeners

    def __iter__(self) -> Iterator[Connection]:
        """Iterate over a snapshot of the connections."""
        return iter([connection for group in self._by_user.values() for connection in group])

    def add(self, connection: Connection) -> bool:
        """Add a connection; returns False, and does not, if its user is at the limit."""
        group = self._by_user.setdefault(connection.user_id, {})
        if len(group) >= self._per_user:
            return False
        if self._attendance is not None and not group and not _is_listener(connection):
            info = None if connection.claims is None else connection.claims.info
            self._attendance.came(user_place(connection.user_id), connection.user_id, info)
        group[connection] = None
        self._count += 1
        self._listeners += _is_listener(connection)
        return True

    def discard(self, connection: Connection) -> None:
        """Remove a connection, if it is present."""
        group = self._by_user.get(connection.user_id, {})
        if connection in group:
            del group[connection]
            self._count -= 1
            self._listeners -= _is_listener(connection)
            if not group:
                del self._by_user[connection.user_id]
                if self._attendance is not None and not _is_listener(connection):
                    self._attendance.left(user_place(connection.user_id), connection.user_id)
            if not self._count:
                self._emptied.unpark_all()

    def __contains__(self, connection: Connection) -> bool:
        """Whether a connection is open."""
        return connection in self._by_user.get(connection.user_id, ())

    def users(self) -> list[str]:
        """Return the users with open connections, without those of the API key, whose ids hold a slash."""
        return [user_id for user_id in self._by_user if "/" not in user_id]

    def count_of(self, user_id: str) -> int:
        """Return the number of open connections of a user; none of the API key's is shown."""
        return 0 if "/" in user_id else len(self._by_user.get(user_id, ()))

    def of_user(self, user_id: str) -> list[Connection]:
        """Return the open connections of a user."""
        return [] if "/" in user_id else list(self._by_user.get(user_id, ()))

    def rooms_of(self, user_id: str) -> Mapping[str, int]:
        """Return the rooms of a user's open connections, with how many of these are in each."""
        if "/" in user_id:
            return {}
        return Counter(room for connection in self._by_user.get(user_id, ()) for room in connection.rooms)

    def bearers(self, revocation: Revocation) -> list[Connection]:
        """Return the open connections whose tokens a revocation means."""
        is_of_user = revocation.kind is not RevocationKind.TOKEN
        among = self._by_user.get(revocation.name, ()) if is_of_user else self
        return [each for each in among if each.claims is not None and revocation.means(each.claims)]

    async def wait_empty(self) -> None:
        """Wait until no connection is open."""
        while self._count:
            await self._emptied.park()

    def disconnect_user(self, user_id: str, code: CloseCode, reason: str) -> int:
        """Start to close all connections of a user; returns their number."""
        group = list(self._by_user.get(user_id, ()))
        for connection in group:
            connection.disconnect(code, reason)
        return len(group)


def _is_listener(connection: Connection) -> bool:
    # Their ids are `api/…`, which no user's can be: it would name a private room with a slash.
    return "/" in connection.user_id
