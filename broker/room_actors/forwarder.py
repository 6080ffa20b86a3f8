"""The requests of one room on a node that does not own it: which wait, and which are on their way to the owner. Pure.

Requests are sent in their order, and all that are on their way went to the same node. They are numbered within a
`generation`, which begins when the first of them is sent. The owner does only the one that is next, and sends the
others back: if one did not reach it, or came when it did not own the room, those behind it come back as well. All are
back before any is sent again, in a new generation, so that the order stays.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import attrs

from broker.model import Shown
from broker.rooms.messages import Call, Join, Publish

MOST_FORWARDED = 1024
"""Requests of a room that wait or are on their way; more are refused."""
ANSWER_SECONDS = 15.0
"""Longest wait for the owner's answer."""
CHECK_SECONDS = 0.5
"""Time without an answer after which the owner is looked for, and between two looks."""
RETRY_SECONDS = 0.25
"""Time between two looks for an owner, while no request is on its way."""


@attrs.frozen(eq=False)
class Departure:
    """A member of this node has left."""

    member: Shown


Forwarded: TypeAlias = Join | Publish | Call | Departure


@attrs.define(eq=False)
class Outgoing:
    """A request with its number; times are trio's."""

    number: int
    message: Forwarded
    since: float
    sent_at: float = 0.0
    ordinal: int = 0
    """Its number in its generation, from 1 on, once it is sent."""
    has_left: bool = False
    """Of a join: the member has left since."""


@attrs.define(eq=False)
class Forwarder:
    """See the module."""

    patience_seconds: float
    """Longest wait for an owner."""
    _numbers: Iterator[int]
    """Those of all generations on this node: each is above all before."""
    owner: str | None = None
    """The node that owned the room when this node has asked last."""
    generation: int = 0
    """That of the requests that are on their way."""
    is_timer_set: bool = False
    _sent: int = 0
    """Requests of the generation."""
    _checked_at: float = -math.inf
    _waiting: deque[Outgoing] = attrs.Factory(deque)
    _on_way: dict[int, Outgoing] = attrs.Factory(dict)
    _returned: list[Outgoing] = attrs.Factory(list)

    @property
    def is_busy(self) -> bool:
        """Whether there are requests."""
        return bool(self._waiting or self._on_way or self._returned)

    @property
    def is_full(self) -> bool:
        """Whether there are as many as there may be."""
        return len(self._waiting) + len(self._on_way) + len(self._returned) >= MOST_FORWARDED

    @property
    def numbers_on_way(self) -> tuple[int, ...]:
        """The numbers of the requests that are on their way."""
        return tuple(self._on_way)

    def add(self, outgoing: Outgoing) -> None:
        """Add a request behind the others."""
        self._waiting.append(outgoing)

    def take_sendable(self, now: float) -> Sequence[Outgoing]:
        """Return the requests to send to the owner now; they are on their way from here on."""
        if self.owner is None or self._returned:
            return ()
        sent = self.take_waiting()
        if sent and not self._on_way:
            self.generation, self._sent = next(self._numbers), 0
        for each in sent:
            self._sent += 1
            each.sent_at, each.ordinal = now, self._sent
            self._on_way[each.number] = each
        return sent

    def take_waiting(self) -> Sequence[Outgoing]:
        """Remove and return the requests that are not on their way."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def take_answered(self, number: int) -> Outgoing | None:
        """Remove and return a request that is on its way; None if it is not, as it was given up."""
        return self._on_way.pop(number, None)

    def take_on_way(self) -> Sequence[Outgoing]:
        """Remove and return all requests that are on their way; of those, nobody knows what will come of them."""
        lost = list(self._on_way.values())
        self._on_way.clear()
        self._settle()
        return lost

    def give_back(self, numbers: Iterable[int]) -> None:
        """Note that requests that are on their way were not done, and may be sent again."""
        self._returned += [each for number in numbers if (each := self._on_way.pop(number, None)) is not None]
        self._settle()

    def _settle(self) -> None:
        """Let requests that came back wait again, once none is on its way."""
        if self._returned and not self._on_way:
            self._waiting.extendleft(sorted(self._returned, key=lambda each: -each.number))
            self._returned = []
            self.owner = None

    def take_expired(self, now: float) -> Sequence[Outgoing]:
        """Remove and return the requests that have found no owner in time, or that it has not answered in time."""
        unsent: list[Outgoing] = []
        for each in self.take_waiting():
            (unsent if now - each.since >= self.patience_seconds else self._waiting).append(each)
        unanswered = [each for each in self._on_way.values() if now - each.sent_at >= ANSWER_SECONDS]
        for each in unanswered:
            del self._on_way[each.number]
        self._settle()
        return [*unanswered, *unsent]

    def may_check(self, now: float) -> bool:
        """Whether the owner is to be looked for now: no request is on its way, or one has been for too long."""
        since, interval_seconds = self._checked_at, RETRY_SECONDS
        if self._on_way:
            oldest = min(each.sent_at for each in self._on_way.values())
            since, interval_seconds = max(oldest, self._checked_at), CHECK_SECONDS
        if now - since < interval_seconds:
            return False
        self._checked_at = now
        return True

    def on_way(self, number: int) -> Outgoing | None:
        """Return a request that is on its way."""
        return self._on_way.get(number)

    def find_join(self, connection: str) -> Outgoing | None:
        """Return the join of a member that waits or is on its way."""
        for each in (*self._on_way.values(), *self._returned, *self._waiting):
            if isinstance(each.message, Join) and each.message.member.shown.connection == connection:
                return each
        return None
