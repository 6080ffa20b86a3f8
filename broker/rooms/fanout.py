"""Sends the notices of a room to the outboxes of its members; a member whose outbox fails is disconnected alone."""

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

OFFERS_PER_CLOCK_READ = 32
"""Check the clock only once per this many offers: reading it costs about as much as an offer."""

TIME_SLICE_SECONDS = 0.001
"""Time after which other tasks run."""

BULK_MEMBERS = 64
"""A frame for more members than this is bulk: an outbox may write it behind frames for fewer members."""


@attrs.define
class Tally:
    """Counts over all rooms of a node since its start, passivated rooms included."""

    deliveries: int = 0
    deliveries_lost: int = 0
    unavailable: int = 0
    """Requests answered `unavailable` by a room."""
    delays: DelayHistogram = attrs.field(factory=DelayHistogram, eq=False)
    """Time from the append of a batch until every outbox has it, for each publish in it."""


class _Delivery(NamedTuple):
    """An action, and the members for whom it is still to be done."""

    action: Callable[[Member], None]
    recipients: Iterator[Member]


class Fanout:
    """The queue of one room's notices, sent in order.

    A member whose outbox or codec raises is disconnected with 1011 and left out from then on; the others get
    everything once. The queue belongs to the room and not to an incarnation of its actor: the next one sends the rest.
    """

    def __init__(self, room: str, tally: Tally, log: Log) -> None:
        self._room = room
        self._tally = tally
        self._log = log
        self._deliveries: deque[_Delivery] = deque()
        self._offers = 0
        self._slice_ends_at = 0.0  # trio time; long past after a pause
        # Empty until a member fails, as a WeakSet is slow.
        self._failed: WeakSet[Member] | tuple[()] = ()

    def queue(self, roster: Roster, notices: Sequence[Notice]) -> None:
        """Encode notices once for each codec, and queue the frames for the present members."""
        offsets = _offsets(notices)
        for codec, members in roster.audiences():
            try:
                frame = codec.encode(notices)
            except Exception as error:  # noqa: BLE001  # concerns these members alone, and is logged
                self._fail(members, error)
                continue
            offer = self._make_offer(frame, len(notices), offsets, is_bulk=len(members) > BULK_MEMBERS)
            self._deliveries.append(_Delivery(offer, iter(members)))
        self._tally.deliveries += len(roster) * len(notices)

    def send_nowait(self, roster: Roster, notice: RoomEvent) -> None:
        """Send one event to all members, as `queue` and `send_queued` would.

        Only while nothing is queued, and for so few members that it fits into a time slice.
        """
        assert not self._deliveries, "nothing may overtake"
        for codec, members in roster.audiences():
            try:
                frame = codec.encode((notice,))
            except Exception as error:  # noqa: BLE001  # concerns these members alone, and is logged
                self._fail(members, error)
                continue
            for member in members:
                try:
                    if member not in self._failed and not member.outbox.offer(frame):
                        self._tally.deliveries_lost += 1
                        member.outbox.note_lost(self._room, _offsets((notice,)))
                except Exception as error:  # noqa: BLE001  # concerns this member alone, and is logged
                    self._fail((member,), error)
        self._tally.deliveries += len(roster)

    def reply_nowait(self, member: Member, notice: Notice) -> None:
        """Send one member an answer; only while nothing is queued."""
        assert not self._deliveries, "nothing may overtake"
        if member in self._failed:
            return
        try:
            member.outbox.reply(notice)
        except Exception as error:  # noqa: BLE001  # concerns this member alone, and is logged
            self._fail((member,), error)

    @property
    def is_pending(self) -> bool:
        """Whether notices are queued."""
        return bool(self._deliveries)

    def note_delay(self, publishes: int, seconds: float) -> None:
        """Count the time of publishes from their append until every outbox has them."""
        self._tally.delays.note(seconds, publishes)

    def note_unavailable(self) -> None:
        """Count a request that the engine could not serve."""
        self._tally.unavailable += 1

    def queue_for(self, member: Member, action: Callable[[Member], None]) -> None:
        """Queue an action for one member."""
        self._deliveries.append(_Delivery(action, iter((member,))))

    async def send_queued(self) -> None:
        """Do everything queued. If cancelled, the next call continues."""
        failed = self._failed or ()
        while self._deliveries:
            delivery = self._deliveries[0]
            for member in delivery.recipients:
                if member in failed:
                    continue
                try:
                    delivery.action(member)
                except Exception as error:  # noqa: BLE001  # concerns this member alone, and is logged
                    self._fail((member,), error)
                    failed = self._failed
                self._offers += 1
                if self._offers % OFFERS_PER_CLOCK_READ == 0 and trio.current_time() >= self._slice_ends_at:
                    await trio.lowlevel.checkpoint()
                    self._slice_ends_at = trio.current_time() + TIME_SLICE_SECONDS
            self._deliveries.popleft()

    def _fail(self, members: Iterable[Member], error: Exception) -> None:
        """Disconnect members that may have missed something: their position is no longer known."""
        failed = self._failed or WeakSet()
        self._failed = failed
        gone = [member for member in members if member not in failed]
        for member in gone:
            failed.add(member)
            member.disconnect(CloseCode.INTERNAL_ERROR, "delivery failed")
        if gone:
            self._log.exception("delivery failed", exc_info=error, room=self._room, members=len(gone))

    def _make_offer(
        self, frame: bytes, notices: int, offsets: tuple[int, int] | None, *, is_bulk: bool
    ) -> Callable[[Member], None]:
        def offer(member: Member) -> None:
            outbox = member.outbox
            if not outbox.offer(frame, is_bulk=is_bulk):
                self._tally.deliveries_lost += notices
                outbox.note_lost(self._room, offsets)

        return offer


def _offsets(notices: Sequence[Notice]) -> tuple[int, int] | None:
    """Return the first and the last offset in these notices, for the Gap of a member that misses them."""
    offsets: list[int] = []
    for notice in notices:
        if isinstance(notice, Gap):
            offsets += (notice.first, notice.last)
        elif isinstance(notice, RoomEvent) and notice.event.offset is not None:
            offsets.append(notice.event.offset)
    return (offsets[0], offsets[-1]) if offsets else None
