"""Rate limits of one user on this node, over all of its connections and rooms.

All that a user leaves behind in rooms and engine (started rooms, stored events, remembered ids) is charged here
first, so that the sum over any period is bounded. A new connection does not reset the limits.
"""

from collections import OrderedDict
from collections.abc import Callable
from weakref import WeakValueDictionary

import attrs

from broker.config.settings import Settings
from broker.errors import ErrorCode, RefusalReason, Refused
from broker.sessions.rate import TokenBucket

MESSAGE_BYTES = 256
"""Charge for a message besides its text: about the size of an event besides its content."""

RESERVE_BYTES = 4096
"""Bytes that a connection takes from its user's allowance at once, so that most messages cost a subtraction."""


ROOMS_UP_RETRY_SECONDS = 5.0
"""Delay before a user tries again who has as many rooms up as it may: nobody knows when one of them will be idle."""


@attrs.define(eq=False, weakref_slot=True)
class Allowance:
    """One user's limits; made by `Allowances.of`. Times are trio's, in seconds."""

    user_id: str
    _bytes: TokenBucket
    burst_bytes: int
    _rooms: TokenBucket
    _ids: TokenBucket
    _most_rooms: int | None = None
    _rooms_up: int = 0

    def take_bytes(self, now: float, size: int) -> float:
        """Charge `size` bytes and return 0, or return the seconds until that is permitted."""
        # A message larger than the burst is charged the burst, or it would be refused for ever.
        return self._bytes.take(now, min(size, self.burst_bytes))

    def give_back_bytes(self, size: int) -> None:
        """Return `size` unused bytes."""
        self._bytes.give_back(min(size, self.burst_bytes))

    def take_id(self, now: float) -> None:
        """Charge a message id, which the engine remembers.

        :raises Refused: `rate_limited` if the user is at its limit of remembered ids.
        """
        _check(
            self._ids.take(now), "too many messages with an id (limits.ids_per_user)", RefusalReason.USER_IDS
        )

    def take_room(self, now: float) -> Callable[[], None] | None:
        """Charge the start of a room; returns what to call once that room has ended, None if nobody counts.

        :raises Refused: `rate_limited` if the user has started too many rooms too fast, or if too many of them are up.
        """
        if self._most_rooms is not None and self._rooms_up >= self._most_rooms:
            message = "too many of the rooms that this user brought up are up (limits.user_rooms)"
            raise rate_limited(message, ROOMS_UP_RETRY_SECONDS, RefusalReason.USER_ROOMS_UP)
        _check(
            self._rooms.take(now),
            "too many rooms brought up (limits.user_rooms_per_second)",
            RefusalReason.USER_ROOMS,
        )
        if self._most_rooms is None:
            return None
        self._rooms_up += 1
        return self._note_room_ended

    def _note_room_ended(self) -> None:
        self._rooms_up -= 1


class ByteMeter:
    """Charges the messages of one connection to its user's allowance, in larger amounts taken in advance.

    Unused bytes are returned at the end, so a user never sends more than was charged.
    """

    __slots__ = ("_allowance", "_message_bytes", "_paid_bytes", "_reserve_bytes")

    def __init__(self, allowance: Allowance, info: bytes | None = None) -> None:
        self._allowance = allowance
        self.set_info(info)
        self._paid_bytes = 0
        # A connection must not reserve much of a small burst that other connections wait for.
        self._reserve_bytes = min(RESERVE_BYTES, allowance.burst_bytes // 64)

    def set_info(self, info: bytes | None) -> None:
        """Set the info that goes with each event from now on."""
        # An event also holds its sender's id and info.
        self._message_bytes = MESSAGE_BYTES + len(self._allowance.user_id.encode()) + len(info or b"")

    def take(self, now: float, text: str) -> float:
        """Charge a message and return 0, or return the seconds until it is permitted."""
        size = (len(text) if text.isascii() else len(text.encode())) + self._message_bytes
        if size > self._paid_bytes:
            missing = size - self._paid_bytes
            taken = max(missing, self._reserve_bytes)
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
        """Return the unused bytes; safe to call twice."""
        self._allowance.give_back_bytes(self._paid_bytes)
        self._paid_bytes = 0


def _check(wait_seconds: float, message: str, why: RefusalReason) -> None:
    if wait_seconds:
        raise rate_limited(message, wait_seconds, why)


def rate_limited(message: str, wait_seconds: float, why: RefusalReason | None = None) -> Refused:
    """Return a refusal with the delay after which the request may be repeated."""
    return Refused(ErrorCode.RATE_LIMITED, message, int(wait_seconds * 1000) + 1, why=why)


class Allowances:
    """The allowances of all users with a connection, and of those whose last one ended recently."""

    def __init__(self, settings: Settings) -> None:
        self.set_limits(settings)
        self._by_user: WeakValueDictionary[str, Allowance] = WeakValueDictionary()
        # Kept until they are full again, and so equal to new ones; in the order of their release.
        self._released: OrderedDict[str, tuple[float, Allowance]] = OrderedDict()

    def set_limits(self, settings: Settings) -> None:
        """Take these limits for users without an allowance so far; the others keep theirs."""
        limits = settings.limits
        self._limits = limits
        # A window permits at most a burst and the tokens earned within it, so each is half of the limit.
        self._ids_burst = max(1, limits.ids_per_user // 2)
        self._ids_per_second = self._ids_burst / settings.history.idempotency_seconds
        self._refill_seconds = max(
            limits.user_bytes_burst / limits.user_bytes_per_second,
            limits.user_rooms_burst / limits.user_rooms_per_second,
            settings.history.idempotency_seconds,
        )

    def __len__(self) -> int:
        """Return the number of users."""
        return len(self._by_user)

    def of(self, user_id: str, now: float) -> Allowance:
        """Return a user's allowance, shared by all its connections; hold a reference while the connection lasts."""
        while self._released and next(iter(self._released.values()))[0] + self._refill_seconds <= now:
            self._released.popitem(last=False)
        allowance = self._by_user.get(user_id)
        if allowance is None:
            limits = self._limits
            allowance = self._by_user[user_id] = Allowance(
                user_id,
                TokenBucket(limits.user_bytes_per_second, limits.user_bytes_burst, now),
                limits.user_bytes_burst,
                TokenBucket(limits.user_rooms_per_second, limits.user_rooms_burst, now),
                TokenBucket(self._ids_per_second, self._ids_burst, now),
                limits.user_rooms,
            )
        return allowance

    def release(self, allowance: Allowance, now: float) -> None:
        """Note the end of a connection: the allowance is kept for the user's next one."""
        self._released[allowance.user_id] = (now, allowance)
        self._released.move_to_end(allowance.user_id)
