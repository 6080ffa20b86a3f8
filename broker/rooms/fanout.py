"""Gives what a room says to the outboxes of all its members; one that cannot be told fails alone."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple
from weakref import WeakSet

import attrs
import trio

from broker.errors import CloseCode
from broker.log import Log
from broker.notices import Gap, Notice, RoomEvent
from broker.rooms.delay_histogram import DelayHistogram
from broker.rooms.member import Member
from broker.rooms.presence.roster import Roster

OFFERS_PER_LOOK = 32
"""After so many offers it is looked at the time: most only queue a frame, some write what is queued."""

TURN_SECONDS = 0.001
"""After so long the other tasks get their turn."""

BULK_MEMBERS = 64
"""What is said to more than so many may go out behind what others say."""


@attrs.define
class Tally:
    """What all the rooms of a node have delivered, also those that are gone."""

    deliveries: int = 0
    deliveries_lost: int = 0
    unavailable: int = 0
    """Requests answered `unavailable` by a room."""
    delays: DelayHistogram = attrs.field(factory=DelayHistogram, eq=False)
    """From a batch's append until every outbox has it, for each publish in it."""


class _Delivery(NamedTuple):
    """What is to be done with some members, and those with whom it is still to be done."""

    hand: Callable[[Member], None]
    recipients: Iterator[Member]


class Fanout:
    """All that one room says, in order.

    A member that fails while something is handed to it, or whose codec fails, is disconnected with 1011 and left
    out from then on; the others are handed everything once. What was begun belongs to the room and not to an
    incarnation of its actor: the next one finishes it.
    """

    def __init__(self, room: str, tally: Tally, log: Log) -> None:
        self._room = room
        self._tally = tally
        self._log = log
        self._deliveries: deque[_Delivery] = deque()
        self._offers = 0
        self._turn_ends_at = 0.0  # trio time; long past where nothing was said for a while
        # A WeakSet is slow, and nearly nobody ever fails.
        self._failed: WeakSet[Member] | tuple[()] = ()

    def begin(self, roster: Roster, notices: Sequence[Notice]) -> None:
        """Encode notices, once for each codec, for those who are in the room now."""
        offsets = _offsets(notices)
        for codec, members in roster.audiences():
            try:
                frame = codec.encode(notices)
            except Exception as error:  # noqa: BLE001  # theirs alone, and logged
                self._fail(members, error)
                continue
            offer = self._offering(frame, len(notices), offsets, is_bulk=len(members) > BULK_MEMBERS)
            self._deliveries.append(_Delivery(offer, iter(members)))
        self._tally.deliveries += len(roster) * len(notices)

    def note_delay(self, publishes: int, seconds: float) -> None:
        """Count how long publishes took from their append until every outbox has them."""
        self._tally.delays.note(seconds, publishes)

    def note_unavailable(self) -> None:
        """Count a request that the engine could not serve."""
        self._tally.unavailable += 1

    def hand(self, member: Member, action: Callable[[Member], None]) -> None:
        """Do something with one member, behind what was begun before."""
        self._deliveries.append(_Delivery(action, iter((member,))))

    async def finish(self) -> None:
        """Do everything begun with everyone meant. If cancelled, call it again to go on."""
        failed = self._failed or ()
        while self._deliveries:
            delivery = self._deliveries[0]
            for member in delivery.recipients:
                if member in failed:
                    continue
                try:
                    delivery.hand(member)
                except Exception as error:  # noqa: BLE001  # its own alone, and logged
                    self._fail((member,), error)
                    failed = self._failed
                self._offers += 1
                if self._offers % OFFERS_PER_LOOK == 0 and trio.current_time() >= self._turn_ends_at:
                    await trio.lowlevel.checkpoint()
                    self._turn_ends_at = trio.current_time() + TURN_SECONDS
            self._deliveries.popleft()

    def _fail(self, members: Iterable[Member], error: Exception) -> None:
        """End the connections of members that may have missed something: what they have seen is no longer known."""
        failed = self._failed or WeakSet()
        self._failed = failed
        gone = [member for member in members if member not in failed]
        for member in gone:
            failed.add(member)
            member.disconnect(CloseCode.INTERNAL_ERROR, "delivery failed")
        if gone:
            self._log.exception("delivery failed", exc_info=error, room=self._room, members=len(gone))

    def _offering(
        self, frame: bytes, notices: int, offsets: tuple[int, int] | None, *, is_bulk: bool
    ) -> Callable[[Member], None]:
        def offer(member: Member) -> None:
            outbox = member.outbox
            if not outbox.offer(frame, is_bulk=is_bulk):
                self._tally.deliveries_lost += notices
                outbox.note_lost(self._room, offsets)

        return offer


def _offsets(notices: Sequence[Notice]) -> tuple[int, int] | None:
    """Return the first and the last offset that those who miss these notices do not hear of."""
    offsets: list[int] = []
    for notice in notices:
        if isinstance(notice, Gap):
            offsets += (notice.first, notice.last)
        elif isinstance(notice, RoomEvent) and notice.event.offset is not None:
            offsets.append(notice.event.offset)
    return (offsets[0], offsets[-1]) if offsets else None
