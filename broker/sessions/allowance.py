"""What one user may cause on this node, over all of its connections and the rooms it is in.

Whatever a user leaves behind in rooms and engine (rooms brought up, events kept, ids remembered) is paid for here
first, so that the sum over any time is bounded. Ending a connection and making another gives nothing back.
"""

from collections import OrderedDict
from weakref import WeakValueDictionary

import attrs

from broker.config.settings import Settings
from broker.errors import ErrorCode, RefusalReason, Refused
from broker.sessions.rate import TokenBucket

MESSAGE_BYTES = 256
"""So much more than its text a message counts: an event takes about that besides its content."""


STRETCH_BYTES = 4096
"""How much a connection takes from its user's allowance at once, so that most messages cost a subtraction."""


@attrs.define(eq=False, weakref_slot=True)
class Allowance:
    """One user's part; made by `Allowances.of`. Times are trio's, in seconds."""

    user_id: str
    _bytes: TokenBucket
    most_bytes: int
    _rooms: TokenBucket
    _ids: TokenBucket

    def take_bytes(self, now: float, size: int) -> float:
        """Let so many bytes through and return 0, or return after how many seconds they may come."""
        # More than the burst needs all of it, and is not refused for ever.
        return self._bytes.take(now, min(size, self.most_bytes))

    def give_back_bytes(self, size: int) -> None:
        """Return bytes that were let through and did not come."""
        self._bytes.give_back(min(size, self.most_bytes))

    def take_id(self, now: float) -> None:
        """Let a message have an id that is remembered.

        :raises Refused: `rate_limited` if as many are remembered as may be.
        """
        _check(
            self._ids.take(now), "too many messages with an id (limits.ids_per_user)", RefusalReason.USER_IDS
        )

    def take_room(self, now: float) -> None:
        """Let a room be brought up.

        :raises Refused: `rate_limited` if that were too many rooms too fast.
        """
        _check(
            self._rooms.take(now),
            "too many rooms brought up (limits.user_rooms_per_second)",
            RefusalReason.USER_ROOMS,
        )


class ByteMeter:
    """Counts the messages of one connection against its user's allowance, which is asked for many at a time.

    What was taken and not used is given back at the end, so what a user sends is never more than what was taken.
    """

    __slots__ = ("_allowance", "_message_bytes", "_paid_bytes", "_stretch_bytes")

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        # An event holds its sender's id too.
        self._message_bytes = MESSAGE_BYTES + len(allowance.user_id.encode())
        self._paid_bytes = 0
        # Of a small burst no connection is to hold much that others wait for.
        self._stretch_bytes = min(STRETCH_BYTES, allowance.most_bytes // 64)

    def take(self, now: float, text: str) -> float:
        """Let a message through and return 0, or return after how many seconds it may come."""
        size = (len(text) if text.isascii() else len(text.encode())) + self._message_bytes
        if size > self._paid_bytes:
            missing = size - self._paid_bytes
            taken = max(missing, self._stretch_bytes)
            wait_seconds = self._allowance.take_bytes(now, taken)
            if wait_seconds and taken > missing:
                taken = missing
                wait_seconds = self._allowance.take_bytes(now, taken)
            if wait_seconds:
                return wait_seconds
            self._paid_bytes += taken
        self._paid_bytes -= size
        return 0.0

    def close(self) -> None:
        """Give back what was not used; safe to call twice."""
        self._allowance.give_back_bytes(self._paid_bytes)
        self._paid_bytes = 0


def _check(wait_seconds: float, message: str, why: RefusalReason) -> None:
    if wait_seconds:
        raise rate_limited(message, wait_seconds, why)


def rate_limited(message: str, wait_seconds: float, why: RefusalReason | None = None) -> Refused:
    """Return the refusal of what may come again after a while."""
    return Refused(ErrorCode.RATE_LIMITED, message, int(wait_seconds * 1000) + 1, why=why)


class Allowances:
    """The allowances of all users that have a connection, or had one so lately that it matters."""

    def __init__(self, settings: Settings) -> None:
        limits = settings.limits
        self._limits = limits
        # In every window there are at most a burst and what the window earns: half and half.
        self._ids_burst = max(1, limits.ids_per_user // 2)
        self._ids_per_second = self._ids_burst / settings.history.idempotency_seconds
        self._refill_seconds = max(
            limits.user_bytes_burst / limits.user_bytes_per_second,
            limits.user_rooms_burst / limits.user_rooms_per_second,
            settings.history.idempotency_seconds,
        )
        self._by_user: WeakValueDictionary[str, Allowance] = WeakValueDictionary()
        # Kept until they are full again and so as good as new ones; in the order of their last uses.
        self._left: OrderedDict[str, tuple[float, Allowance]] = OrderedDict()

    def __len__(self) -> int:
        """How many users there are."""
        return len(self._by_user)

    def of(self, user_id: str, now: float) -> Allowance:
        """Return a user's allowance, the same for all connections; hold it while the connection lasts."""
        while self._left and next(iter(self._left.values()))[0] + self._refill_seconds <= now:
            self._left.popitem(last=False)
        allowance = self._by_user.get(user_id)
        if allowance is None:
            limits = self._limits
            allowance = self._by_user[user_id] = Allowance(
                user_id,
                TokenBucket(limits.user_bytes_per_second, limits.user_bytes_burst, now),
                limits.user_bytes_burst,
                TokenBucket(limits.user_rooms_per_second, limits.user_rooms_burst, now),
                TokenBucket(self._ids_per_second, self._ids_burst, now),
            )
        return allowance

    def leave(self, allowance: Allowance, now: float) -> None:
        """Note that a connection of the user has ended: the next one goes on where it left off."""
        self._left[allowance.user_id] = (now, allowance)
        self._left.move_to_end(allowance.user_id)
