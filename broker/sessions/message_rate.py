"""The rate at which one connection may send messages, and at which it may be refused."""

from broker.clocks import Clock
from broker.config.settings import LimitSettings
from broker.errors import CloseCode, Disconnect, RefusalReason, Refused
from broker.sessions.allowance import Allowance, ByteMeter, rate_limited
from broker.sessions.rate import TokenBucket

REFUSALS_PER_MESSAGE = 2
"""Refusals for the rate, for each message that the rate permits, before the connection is closed.

A client that sends one message at a time and waits for `retry_after_ms` is refused once for each, rarely twice.
"""


class MessageRate:
    """Checks each message of a connection against the rate of the connection and the bytes of its user."""

    __slots__ = ("_burst", "_bytes", "_clock", "_messages", "_refusals")

    def __init__(self, limits: LimitSettings, allowance: Allowance, info: bytes | None, clock: Clock) -> None:
        self._bytes = ByteMeter(allowance, info)
        self._clock = clock
        now = clock()
        self._burst = limits.messages_burst
        self._messages = TokenBucket(limits.messages_per_second, limits.messages_burst, now)
        self._refusals = TokenBucket(
            limits.messages_per_second * REFUSALS_PER_MESSAGE, limits.refused_burst, now
        )

    def check(self, text: str) -> None:
        """Charge a message.

        :raises Refused: `rate_limited` if it comes too early.
        :raises Disconnect: 4129 if the budget of such refusals is spent as well.
        """
        now = self._clock()
        if wait_seconds := self._messages.take(now):
            raise self._over_rate(now, wait_seconds, "too many messages")
        if wait_seconds := self._bytes.take(now, text):
            message = "too many bytes (limits.user_bytes_per_second)"
            raise self._over_rate(now, wait_seconds, message, RefusalReason.USER_BYTES)

    def charge_answer(self, cost: int) -> None:
        """Charge a message that `check` has let through as `cost` messages; at most as the burst.

        :raises Refused: `rate_limited` until all of them are permitted; none is charged then.
        :raises Disconnect: as `check`.
        """
        now = self._clock()
        self._messages.give_back(1)
        if wait_seconds := self._messages.take(now, min(cost, self._burst)):
            message = f"counts as {cost} messages (limits.history_events_per_message)"
            raise self._over_rate(now, wait_seconds, message, RefusalReason.ANSWER_COST)

    def _over_rate(
        self, now: float, wait_seconds: float, message: str, why: RefusalReason | None = None
    ) -> Refused | Disconnect:
        """Return the refusal of a message above the rate; past the budget of refusals, the end of the connection."""
        if self._refusals.take(now):
            return Disconnect(CloseCode.TOO_MANY, message, why=why)
        return rate_limited(message, wait_seconds, why)

    def credit_elapsed(self) -> None:
        """Credit the time since the last message in full: messages came meanwhile, at a rate that is unknown."""
        self._messages.credit_elapsed(self._clock())

    def set_info(self, info: bytes | None) -> None:
        """Set the info that goes with each event from now on, and is charged with it."""
        self._bytes.set_info(info)

    def close(self) -> None:
        """Return unused bytes to the user; safe to call twice."""
        self._bytes.close()
