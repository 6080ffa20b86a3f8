"""The last ends of connections, by user: for whoever asks why one is gone. Bounded in users, in ends and in age. Pure."""

from collections import OrderedDict, deque

import msgspec

MOST_USERS = 10_000
CLOSES_PER_USER = 5
AGE_SECONDS = 3600.0


class Close(msgspec.Struct, frozen=True, gc=False):
    """The end of one connection."""

    time: float
    """Unix seconds."""
    code: int
    """The close code; 1006 if the connection was lost without one."""
    reason: str
    is_by_client: bool


class RecentCloses:
    """Forgets the users first whose last end is the oldest; about 300 bytes for each end."""

    def __init__(self, *, most_users: int = MOST_USERS) -> None:
        self._most_users = most_users
        self._by_user: OrderedDict[str, deque[Close]] = OrderedDict()

    def note(self, user_id: str, close: Close) -> None:
        """Keep one more end, and forget what is too much or too old."""
        closes = self._by_user.get(user_id)
        if closes is None:
            closes = self._by_user[user_id] = deque(maxlen=CLOSES_PER_USER)
        closes.append(close)
        self._by_user.move_to_end(user_id)
        # Two at most, so that this costs the same each time and what is old still goes.
        for _ in range(2):
            oldest = next(iter(self._by_user))
            if len(self._by_user) > self._most_users or self._is_old(self._by_user[oldest][-1], close.time):
                del self._by_user[oldest]

    def of(self, user_id: str, now: float) -> list[Close]:
        """Return the ends of a user's connections, the newest first; `now` is Unix seconds."""
        closes = self._by_user.get(user_id, ())
        return [close for close in reversed(closes) if not self._is_old(close, now)]

    def __len__(self) -> int:
        """Return the number of users that are known."""
        return len(self._by_user)

    def _is_old(self, close: Close, now: float) -> bool:
        return now - close.time >= AGE_SECONDS
