"""Sends the notices of a room to the outboxes of its members; a member whose outbox fails is disconnected alone."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeAlias
from weakref import WeakSet

import trio

from broker.clocks import Clock
from broker.errors import CloseCode
from broker.log import Log
from broker.notices import Notice, RoomEvent
from broker.rooms.broadcast import Broadcast, Frames, Part
from broker.rooms.choice import Audience, Parcel, divide, excludes_any
from broker.rooms.frame import RoomFrame, SlowReader, Source, room_frame
from broker.rooms.member import Codec, Member
from broker.rooms.presence.roster import Audiences, Roster
from broker.rooms.tally import Tally
from broker.rooms.time_slice import TIME_SLICE_SECONDS, TimeSlice

OFFERS_PER_CLOCK_READ = 32
"""Check the clock only once per this many offers: reading it costs about as much as an offer."""

BULK_MEMBERS = 64
"""A room with more members is large. It writes a frame to them at once, in time slices that all large rooms share;
what it is to send meanwhile is joined. Frames for fewer members are written behind the room's turn, together with
those of other rooms."""


_Delivery: TypeAlias = Callable[[], int]
"""Sends something to few members; returns to how many."""


class _Everyone:
    """All members."""

    def __contains__(self, member: object) -> bool:
        return True


_EVERYONE = _Everyone()


class Fanout:
    """The queue of one room's notices, sent in order.

    A member whose outbox or codec raises is disconnected with 1011 and left out from then on; the others get
    everything once. The queue belongs to the room and not to an incarnation of its actor: the next one sends the rest.
    """

    def __init__(
        self,
        room: str,
        tally: Tally,
        log: Log,
        bulk_slice: TimeSlice,
        slow_reader: SlowReader | None = None,
        *,
        clock: Clock = trio.current_time,
    ) -> None:
        """`bulk_slice` is shared by all rooms of the node."""
        self._source = Source(room, slow_reader)
        self._tally = tally
        self._log = log
        self._clock = clock
        self._deliveries: deque[_Delivery | Broadcast] = deque()
        self._bulk_slice = bulk_slice
        self._offers = 0  # since the clock was last read
        self._slice_ends_at = 0.0  # trio time; long past after a pause
        # Empty until a member fails, as a WeakSet is slow.
        self._failed: WeakSet[Member] | tuple[()] | _Everyone = ()
        self.on_withheld: Callable[[], None] = do_nothing
        """Called when members are to be told, by `queue_withheld`, of events that were withheld from them."""

    def queue(self, roster: Roster, notices: Sequence[Notice]) -> None:
        """Encode notices once for each audience, and queue the frames for the present members."""
        audiences = roster.audiences()
        if roster.has_choices or excludes_any(notices):
            self._queue_parcels(roster, divide(audiences, notices), notices)
            return
        frames = [self._encode(codec, members, notices) for codec, members, _ in audiences]
        if len(roster) > BULK_MEMBERS:
            self._broadcast_to(audiences).add(Frames(frames))
        else:
            self._deliveries += [
                partial(self._offer_to, members, frame)
                for (_, members, _), frame in zip(audiences, frames, strict=True)
            ]

    def queue_withheld(self, roster: Roster) -> None:
        """Queue notices of the events that were withheld from members, for those that were not told of them yet."""
        if roster.has_withheld:
            parcels = [
                Parcel(audience, [] if audience.choice is None else audience.choice.take_withheld(), {})
                for audience in roster.audiences()
            ]
            self._queue_parcels(roster, parcels, ())

    def _queue_parcels(self, roster: Roster, parcels: Sequence[Parcel], divided: Sequence[Notice]) -> None:
        """Queue notices that are not the same for all members. An audience without any is offered nothing."""
        self._note_parcels(roster, parcels, divided)
        if len(roster) <= BULK_MEMBERS:
            self._deliveries += [partial(self._offer_parcel, parcel) for parcel in parcels]
            return
        by_audience = [self._frame_of(*parcel[:2]) for parcel in parcels]
        others = {
            member: self._frame_of(parcel.audience._replace(members=(member,)), notices)
            for parcel in parcels
            for member, notices in parcel.others.items()
        }
        if any(frame.notices for frame in by_audience):
            self._broadcast_to(roster.audiences()).add(Frames(by_audience, others))

    def _note_parcels(self, roster: Roster, parcels: Iterable[Parcel], divided: Sequence[Notice]) -> None:
        """Count the events of `divided` that are not in the parcels."""
        events = 0
        for parcel in parcels:
            alike = len(parcel.audience.members) - len(parcel.others)
            events += alike * _count_events(parcel.notices) + sum(map(_count_events, parcel.others.values()))
        self._tally.filtered += len(roster) * _count_events(divided) - events
        if roster.has_withheld:
            self.on_withheld()

    def abandon(self) -> None:
        """Send what is queued to nobody, and count it as gone: its room is no more."""
        self._failed = _EVERYONE
        while self._deliveries:
            first = self._deliveries.popleft()
            if not isinstance(first, Broadcast):
                first()
                continue
            self._write_to(first.take())
            if not first.settle():
                self._deliveries.appendleft(first)

    def _frame_of(self, audience: Audience, notices: Sequence[Notice]) -> RoomFrame:
        if not notices:
            return room_frame(b"", self._source, notices)
        return self._encode(audience.codec, audience.members, notices)

    def _offer_parcel(self, parcel: Parcel) -> int:
        """Offer an audience its notices, and those of its members that are excluded from some what is left of them."""
        codec, members, _ = parcel.audience
        offered = 0
        for member, notices in parcel.others.items():
            if notices:
                offered += self._offer_to((member,), self._encode(codec, (member,), notices))
        if parcel.notices:
            alike = (
                [member for member in members if member not in parcel.others] if parcel.others else members
            )
            offered += self._offer_to(alike, self._encode(codec, alike, parcel.notices))
        return offered

    def _encode(self, codec: Codec, members: Sequence[Member], notices: Sequence[Notice]) -> RoomFrame:
        """Return the frame for an audience. If its codec raises, its members are failed, and it is empty."""
        try:
            data = codec.encode(notices)
        except Exception as error:  # noqa: BLE001  # concerns these members alone, and is logged
            self._fail(members, error)
            data = b""
        # As `room_frame`: a call less for each event.
        frame = RoomFrame(data)
        frame.source = self._source
        frame.notices = notices
        return frame

    def _broadcast_to(self, audiences: Audiences) -> Broadcast:
        """Return the last broadcast if it can take more for these members, else a new one behind all that is queued."""
        last = self._deliveries[-1] if self._deliveries else None
        if isinstance(last, Broadcast) and last.audiences is audiences and not last.is_full:
            return last
        broadcast = Broadcast(audiences)
        self._deliveries.append(broadcast)
        return broadcast

    def send_nowait(self, roster: Roster, notices: Sequence[RoomEvent]) -> None:
        """Send events to all members, as `queue` and `send_queued` would.

        Only while nothing is queued, and for so few members that it fits into a time slice.
        """
        assert not self._deliveries, "nothing may overtake"
        if roster.has_choices or excludes_any(notices):
            parcels = divide(roster.audiences(), notices)
            self._note_parcels(roster, parcels, notices)
            for parcel in parcels:
                self._offer_parcel(parcel)
            return
        for codec, members, _ in roster.audiences():
            self._offer_to(members, self._encode(codec, members, notices))

    def reply_nowait(self, member: Member, notice: Notice) -> None:
        """Send one member an answer; only while nothing is queued."""
        assert not self._deliveries, "nothing may overtake"
        self._act_for(member, lambda member: member.outbox.reply(notice))

    @property
    def is_pending(self) -> bool:
        """Whether notices are queued."""
        return bool(self._deliveries)

    @property
    def can_join(self) -> bool:
        """Whether events of the same members, queued before all is sent, are joined with what they still lack."""
        last = self._deliveries[-1] if self._deliveries else None
        return isinstance(last, Broadcast) and not last.is_full

    def note_delay(self, publishes: int, began: float) -> None:
        """Count the time of publishes, from their append at `began` until all that is queued now is sent."""
        if not self._deliveries:
            self._note_delay(publishes, began)
            return
        self.call_when_sent(partial(self._note_delay, publishes, began))

    def call_when_sent(self, action: Callable[[], int]) -> None:
        """Call `action`, which returns 0, once all that is queued now is sent; at once if nothing is."""
        last = self._deliveries[-1] if self._deliveries else None
        if last is None:
            action()
        elif isinstance(last, Broadcast):
            last.call_when_sent(action)
        else:
            self._deliveries.append(action)

    def _note_delay(self, publishes: int, began: float) -> int:
        self._tally.delays.note(self._clock() - began, publishes)
        if publishes > 1:
            self._tally.batches.note(publishes)
        return 0

    def note_unavailable(self) -> None:
        """Count a request that the engine could not serve."""
        self._tally.unavailable += 1

    def queue_for(self, member: Member, action: Callable[[Member], None]) -> None:
        """Queue an action for one member."""
        self._deliveries.append(partial(self._act_for, member, action))

    async def send_queued(self) -> None:
        """Send everything queued. If cancelled, the next call continues."""
        while self._deliveries:
            await self.send_some()

    async def send_some(self) -> None:
        """Send what fits into a time slice of what is queued first."""
        first = self._deliveries[0]
        if isinstance(first, Broadcast):
            await self._send_slice(first)
            return
        self._deliveries.popleft()
        self._offers += first()
        if self._offers >= OFFERS_PER_CLOCK_READ:
            self._offers = 0
            if trio.current_time() >= self._slice_ends_at:
                await trio.lowlevel.checkpoint()
                self._slice_ends_at = trio.current_time() + TIME_SLICE_SECONDS

    async def _send_slice(self, broadcast: Broadcast) -> None:
        if self._bulk_slice.is_over():
            await self._bulk_slice.wait_next()
        is_sent = False
        while not is_sent:
            part = broadcast.take()
            self._write_to(part)
            is_sent = broadcast.settle()
            if self._bulk_slice.is_over():
                break
        if is_sent:
            self._deliveries.popleft()

    def _write_to(self, part: Part) -> None:
        """Write a part of a broadcast."""
        self._write_frame(part.members, part.frame)
        for member, frame in part.others:
            self._write_frame((member,), frame)

    def _write_frame(self, members: Sequence[Member], frame: RoomFrame) -> None:
        """Write a frame to members. The fast path of `_offer_to` where nothing waits."""
        failed = self._failed
        self._tally.deliveries += len(members) * len(frame.notices)
        if not frame:
            self._tally.gone += len(members) * len(frame.notices)
            return
        for member in members:
            if member in failed:
                self._tally.gone += len(frame.notices)
                continue
            try:
                if not member.outbox.write_or_offer(frame):
                    self._tally.deliveries_lost += member.outbox.hold(frame)
            except Exception as error:  # noqa: BLE001  # concerns this member alone, and is logged
                self._tally.gone += len(frame.notices)
                self._fail((member,), error)
                failed = self._failed

    def _offer_to(self, members: Sequence[Member], frame: RoomFrame) -> int:
        self._tally.deliveries += len(members) * len(frame.notices)
        for member in members:
            if member in self._failed:
                self._tally.gone += len(frame.notices)
                continue
            try:
                if not member.outbox.offer(frame):
                    self._tally.deliveries_lost += member.outbox.hold(frame)
            except Exception as error:  # noqa: BLE001  # concerns this member alone, and is logged
                self._tally.gone += len(frame.notices)
                self._fail((member,), error)
        return len(members)

    def _act_for(self, member: Member, action: Callable[[Member], None]) -> int:
        if member not in self._failed:
            try:
                action(member)
            except Exception as error:  # noqa: BLE001  # concerns this member alone, and is logged
                self._fail((member,), error)
        return 1

    def _fail(self, members: Iterable[Member], error: Exception) -> None:
        """Disconnect members that may have missed something: their position is no longer known. Never raises."""
        if isinstance(self._failed, _Everyone):
            return
        failed = self._failed or WeakSet()
        self._failed = failed
        gone = [member for member in members if member not in failed]
        errors = [error]
        for member in gone:
            failed.add(member)
            try:
                member.disconnect(CloseCode.INTERNAL_ERROR, "delivery failed")
            except Exception as another:  # noqa: BLE001  # concerns this member alone, and is logged
                errors.append(another)
        if gone:
            shown = error if len(errors) == 1 else ExceptionGroup("delivery failed", errors)
            self._log.exception("delivery failed", exc_info=shown, room=self._source.room, members=len(gone))


def do_nothing() -> None:
    """Do nothing, for `Fanout.on_withheld` while no actor is there to set a timer."""


def _count_events(notices: Iterable[Notice]) -> int:
    return sum(1 for notice in notices if isinstance(notice, RoomEvent))
