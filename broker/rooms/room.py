"""The room: an actor that alone touches who is in it and what it has said."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

import trio

from actors import Actor, Batch, Context, Reply
from broker.engine.base import Engine, Receipt
from broker.errors import EngineUnavailableError
from broker.model import Event, Position
from broker.notices import (
    HistoryPage,
    Joined,
    Left,
    Notice,
    PresenceList,
    RoomEvent,
)
from broker.rooms.answers import answer_published, answer_unavailable, reply_to
from broker.rooms.feed_order import order_feed_events
from broker.rooms.history import read_missed, read_page
from broker.rooms.member import Member
from broker.rooms.messages import (
    CatchUp,
    FeedEvents,
    Inspect,
    Join,
    Leave,
    Publish,
    ReadHistory,
    ReadRemoteMembers,
    RemoteChanged,
    Remove,
    RemoveHere,
    RoomInfo,
    RoomMessage,
    SendHistory,
    SendPresence,
    SendPresenceBatch,
)
from broker.rooms.recovery import joined_in_pages, missed_notices
from broker.rooms.state import RoomOptions, RoomState


class Room(Actor[RoomMessage]):
    """One incarnation of a room.

    What waits in the inbox is handled as one batch: publishes that follow each other are one append to the
    engine and one frame for each member. Everyone in the room hears of events in the order of their offsets.

    Whatever follows from a message is begun before anyone is told. So a fault leaves nothing half told: the next
    incarnation goes on telling.
    """

    def __init__(self, state: RoomState, engine: Engine, options: RoomOptions) -> None:
        self._state = state
        self._engine = engine
        self._options = options
        self._context: Context[RoomMessage] | None = None
        self._batch_at: float | None = None  # the trio time for which a timer is set
        self._is_retry_set = False

    @property
    def _delivered(self) -> Position:
        assert self._state.delivered is not None, "on_start sets it"
        return self._state.delivered

    async def on_start(self, context: Context[RoomMessage]) -> None:
        """Take up where the last incarnation left off, if there was one."""
        self._context = context
        if self._state.delivered is None:
            self._state.delivered = await self._engine.position(self._state.name)
        else:
            await self._catch_up_or_retry()
        self._set_timer()
        await self._state.fanout.finish()

    def is_idle(self) -> bool:
        """Whether the room is empty."""
        return self._state.roster.is_empty and not self._state.presence.batch.is_pending

    async def receive_batch(self, batch: Batch[RoomMessage]) -> None:
        """Handle all that waits: publishes that stand together as one, and so what the feed brought."""
        arrivals: list[FeedEvents] = []
        publishes: list[Publish] = []
        for message in batch:
            if isinstance(message, Publish):
                publishes.append(message)
            elif isinstance(message, FeedEvents):
                arrivals.append(message)
            else:
                try:
                    await self._take_together(arrivals, publishes)
                except Exception:
                    # It has left the inbox: a failure before its turn must not lose it, least of all a leave.
                    await self.receive(message)  # noqa: ASYNC120  # if cancelled, that is how it ends
                    raise
                arrivals, publishes = [], []
                await self.receive(message)
        await self._take_together(arrivals, publishes)

    async def _take_together(self, arrivals: Sequence[FeedEvents], publishes: Sequence[Publish]) -> None:
        try:
            if arrivals:
                await self._arrive(arrivals)
        except Exception:
            await self._publish(publishes)  # noqa: ASYNC120  # if cancelled, that is how it ends
            raise
        await self._publish(publishes)

    async def receive(self, message: RoomMessage) -> None:
        """Handle one message that is no publish; what the engine cannot do is answered, and the room goes on."""
        try:
            await self._handle(message)
        except EngineUnavailableError as error:
            answer_unavailable(self._state, message, error)
        finally:
            if self._state.roster.is_empty and self._state.subscription.is_open:
                self._state.subscription.close()
                self._state.presence.end()
        await self._state.fanout.finish()

    async def _handle(self, message: RoomMessage) -> None:  # noqa: C901  # one case for each message
        match message:
            case Join():
                await self._join(message)
            case Leave():
                self._leave(message)
            case SendPresence(member, request_id, reply):
                room = self._state.presence
                notice = PresenceList(room.room, room.size, room.users(), request_id)
                reply_to(self._state, member, notice, reply=reply)
            case SendHistory() | ReadHistory():
                await self._read_history(message)
            case Remove(user_id, reply):
                await self._remove(user_id, reply)
            case SendPresenceBatch():
                self._send_presence_batch()
            case CatchUp():
                self._is_retry_set = False
                self._state.subscription.begin_catch_up()
                await self._catch_up_or_retry()
                await self._or_retry(self._read_remote_members)
            case RemoteChanged() | ReadRemoteMembers() | RemoveHere():
                await self._or_retry(partial(self._hear_of_others, message))
            case Inspect(reply):
                await self._inspect(reply)
            case Publish():
                await self._publish([message])
            case FeedEvents():
                await self._arrive([message])

    async def _join(self, join: Join) -> None:
        state, member = self._state, join.member
        await self._listen()
        events, is_recovered = await self._missed_since(join.since)
        is_new = state.roster.add(member)
        assert self._context is not None, "on_start sets it"
        member.added_to(state.name, self._context.ref)
        joined = Joined(
            state.name, state.presence.size, self._delivered, is_recovered, events, join.request_id
        )
        reply_to(state, member, *joined_in_pages(joined, self._options.page_bytes), reply=join.reply)
        if is_new and member.is_visible:
            self._tell_all(state.presence.came(member.user_id))

    async def _listen(self) -> None:
        """Let the feed bring what is said, then ask where the room stands: nothing can fall between the two."""
        state, feed = self._state, self._engine.feed
        if feed is None or state.subscription.is_open:
            return
        assert self._context is not None, "on_start sets it"
        await state.subscription.open(feed, self._context.ref)
        # Nobody is in yet, so there is nobody to tell what was said before.
        state.delivered = await self._engine.position(state.name)
        await state.presence.begin()

    async def _inspect(self, reply: Reply[RoomInfo]) -> None:
        if self._engine.feed is not None and not self._state.subscription.is_open:
            # What is said does not come in while nobody is here.
            self._state.delivered = await self._engine.position(self._state.name)
            await self._state.presence.begin()
        reply.set(self._state.info())

    async def _hear_of_others(self, message: RemoteChanged | ReadRemoteMembers | RemoveHere) -> None:
        presence = self._state.presence
        if not self._state.subscription.is_open:
            return
        match message:
            case RemoteChanged(change):
                notices = presence.apply(change)
                if notices is None:
                    await self._read_remote_members()
                else:
                    self._tell_all(notices)
            case RemoveHere(user_id):
                self._remove_here(user_id)
            case ReadRemoteMembers(lost_node):
                if lost_node is None or lost_node in presence.remote.nodes:
                    await self._read_remote_members()

    async def _read_remote_members(self) -> None:
        """Begin to tell what has changed on other nodes."""
        presence = self._state.presence
        notices, is_anew = await presence.read_remote_members()
        self._tell_all(notices)
        if is_anew and presence.presence is not None and self._context is not None:
            self._context.tell_later(presence.presence.lease_seconds, ReadRemoteMembers())

    async def _missed_since(self, since: Position | None) -> tuple[tuple[Event, ...], bool]:
        """Return what came after `since` up to what the room has delivered, and whether that is all of it."""
        if since is None:
            return (), False
        if since.epoch != self._delivered.epoch or since.offset > self._delivered.offset:
            # Perhaps another node told it of what this one has not heard of yet.
            await self._catch_up()
        if since.epoch != self._delivered.epoch or since.offset > self._delivered.offset:
            return (), False
        return await read_missed(
            self._engine,
            self._state.name,
            since,
            self._delivered.offset,
            page_messages=self._options.page_messages,
            most_bytes=self._options.recovery_bytes,
        )

    def _leave(self, leave: Leave) -> None:
        was_in = self._state.roster.discard(leave.member)
        if leave.is_answered:
            reply_to(self._state, leave.member, Left(self._state.name, leave.request_id))
        if was_in and leave.member.is_visible:
            self._tell_left(leave.member.user_id)

    async def _remove(self, user_id: str, reply: Reply[int]) -> None:
        is_here = self._state.subscription.is_open
        count = self._remove_here(user_id)
        reply.set(count + await self._state.presence.remove_elsewhere(user_id, is_here=is_here))

    def _remove_here(self, user_id: str) -> int:
        def remove(member: Member) -> None:
            member.outbox.reply(Left(self._state.name))
            member.removed_from(self._state.name)

        members = self._state.roster.members_of(user_id)
        for member in members:
            self._state.roster.discard(member)
            self._state.fanout.hand(member, remove)
            self._tell_left(user_id)
        return len(members)

    def _tell_left(self, user_id: str) -> None:
        self._tell_all(self._state.presence.went(user_id))

    async def _publish(self, publishes: Sequence[Publish]) -> None:
        if not publishes:
            return
        state = self._state
        drafts = [publish.draft for publish in publishes]
        began = trio.current_time()
        try:
            receipts = await self._engine.append(state.name, drafts, self._options.retention)
        except EngineUnavailableError as error:
            for publish in publishes:
                answer_unavailable(self._state, publish, error)
            await state.fanout.finish()
            return
        if self._engine.feed is None:
            await self._deliver(receipts)
        elif not state.subscription.is_open and any(publish.reply is not None for publish in publishes):
            # Nobody is here, and the answer tells how many are elsewhere.
            with suppress(EngineUnavailableError):
                await state.presence.begin()
        answer_published(state, publishes, receipts)
        await state.fanout.finish()
        state.fanout.note_delay(len(publishes), trio.current_time() - began)

    async def _deliver(self, receipts: Sequence[Receipt]) -> None:
        """Begin to tell everyone what was just appended, after whatever the room has not heard of yet."""
        stored = [r.position for r in receipts if r.event is not None and r.position is not None]
        events = [r.event for r in receipts if r.event is not None]
        if not stored:
            self._begin_events(events, self._delivered)
        elif stored[0].is_next_to(self._delivered):
            self._begin_events(events, stored[-1])
        else:
            name, epoch = self._state.name, stored[0].epoch
            await self._catch_up_or_retry([RoomEvent(name, epoch, e) for e in events if e.offset is not None])
            self._begin_events([event for event in events if event.offset is None], self._delivered)

    async def _arrive(self, arrivals: Sequence[FeedEvents]) -> None:
        """Begin to tell what the feed has brought, after what is missing before it."""
        for arrived in arrivals:
            self._state.subscription.take(arrived)
        if not self._state.subscription.is_open:
            return
        rest = self._tell_what_follows(arrivals)
        if rest:
            name = self._state.name
            stored = [RoomEvent(name, a.epoch, e) for a in rest for e in a.events if e.offset is not None]
            await self._catch_up_or_retry(stored)
            self._tell_what_follows(rest)
        await self._state.fanout.finish()

    def _tell_what_follows(self, arrivals: Sequence[FeedEvents]) -> Sequence[FeedEvents]:
        sorted_ = order_feed_events(self._delivered, arrivals)
        if sorted_.events:
            self._begin_events(sorted_.events, sorted_.position)
        return sorted_.rest

    async def _catch_up(self, own: Sequence[RoomEvent] = ()) -> None:
        """Begin to tell what is in the engine and was not told: the one way out of having missed something.

        `own` was just appended, here or elsewhere; the engine may keep no history of it.
        """
        state, told = self._state, self._delivered
        run = await self._engine.read(state.name, after=told.offset)
        if run.position.epoch != told.epoch:
            # The engine has lost the room, and what it holds now is all new.
            run = await self._engine.read(state.name)
        self._begin(missed_notices(state.name, told, run, own), run.position)

    async def _catch_up_or_retry(self, own: Sequence[RoomEvent] = ()) -> None:
        """Catch up, now or when the engine can be read again; a publish may do so before."""
        await self._or_retry(partial(self._catch_up, own))

    async def _or_retry(self, action: Callable[[], Awaitable[None]]) -> None:
        try:
            await action()
        except EngineUnavailableError as error:
            if not self._is_retry_set:
                self._is_retry_set = True
                assert self._context is not None, "on_start sets it"
                self._context.tell_later(error.retry_after_ms / 1000, CatchUp())

    def _begin_events(self, events: Sequence[Event], position: Position) -> None:
        self._begin([RoomEvent(self._state.name, position.epoch, event) for event in events], position)

    def _begin(self, notices: Sequence[Notice], position: Position) -> None:
        """Begin to tell everyone; from here on, a failure leaves the rest to the next incarnation."""
        if notices:
            self._state.fanout.begin(self._state.roster, notices)
            self._state.said += len(notices)
        self._state.delivered = position

    async def _read_history(self, ask: SendHistory | ReadHistory) -> None:
        run = await read_page(
            self._engine,
            self._state.name,
            ask.since,
            ask.limit,
            reverse=ask.reverse,
            most_bytes=self._options.page_bytes,
        )
        match ask:
            case SendHistory(member=member, request_id=request_id, reply=reply):
                page = HistoryPage(self._state.name, run.events, run.position, request_id)
                reply_to(self._state, member, page, reply=reply)
            case ReadHistory(reply=run_reply):
                run_reply.set(run)

    def _tell_all(self, notices: Sequence[Notice]) -> None:
        if notices:
            self._state.fanout.begin(self._state.roster, notices)
        self._set_timer()

    def _send_presence_batch(self) -> None:
        if self._batch_at is None or trio.current_time() < self._batch_at:
            return  # from the timer of an incarnation that failed
        self._batch_at = None
        self._tell_all(self._state.presence.gathered())

    def _set_timer(self) -> None:
        assert self._context is not None, "on_start sets it"
        if self._state.presence.batch.is_pending and self._batch_at is None:
            self._batch_at = trio.current_time() + self._options.gather_seconds
            self._context.tell_later(self._options.gather_seconds, SendPresenceBatch())
