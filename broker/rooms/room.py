"""The room: an actor that alone touches its members and sends them events in order."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import attrs
import trio

from actors import Actor, ActorStoppedError, Batch, Context, Reply
from broker.engine.base import Engine
from broker.errors import EngineUnavailableError, ErrorCode, RefusalReason, Refused
from broker.model import Event
from broker.notices import Acknowledged, Failed, HistoryPage, Joined, Left, Notice
from broker.rooms.answers import answer_published, answer_refused, answer_unavailable, reply_to
from broker.rooms.choice import choose_stored, is_for
from broker.rooms.delivery import Delivery
from broker.rooms.fanout import do_nothing
from broker.rooms.fast_path import answer_append_nowait, deliver_nowait, publish_nowait
from broker.rooms.history import read_page
from broker.rooms.member import Member
from broker.rooms.messages import (
    AppendDone,
    Call,
    CatchUp,
    FeedEvents,
    ForCode,
    Inspect,
    Join,
    Leave,
    Publish,
    ReadHistory,
    ReadRemoteMembers,
    RemoteChanged,
    Remove,
    RemoveHere,
    RoomMessage,
    SendHistory,
    SendPresence,
    SendPresenceBatch,
    SendQueued,
    SendWithheld,
    SetState,
    ShowInfo,
    TaskEnded,
    TimerDue,
)
from broker.rooms.presence.listing import list_members
from broker.rooms.recovery import joined_in_pages
from broker.rooms.state import RoomOptions, RoomState

NO_CALLS = Refused(ErrorCode.FORBIDDEN, "nothing answers calls in this room")

_NOTHING_MISSED: tuple[Sequence[Event], bool] = ((), False)

WITHHELD_SECONDS = 1.0
"""How long members with a filter may not know of events that were withheld from them. After a lost connection they ask
for all events after the last position that they know, which the room may not hold for long."""


class Room(Actor[RoomMessage]):
    """One incarnation of a room.

    The messages waiting in the mailbox are handled as one batch: publishes that follow each other are one append to
    the engine and one frame for each member. Events are sent to all members in the order of their offsets.

    Every notice that a message causes is queued on the Fanout before any is sent. The Fanout survives a crash of this
    actor, so its next incarnation sends what is left.
    """

    # Set by on_start, before any message is handled.
    _context: Context[RoomMessage]
    _delivery: Delivery

    def __init__(self, state: RoomState, engine: Engine, options: RoomOptions) -> None:
        self._state = state
        self._engine = engine
        self._options = options
        self._batch_at: float | None = None  # the trio time for which a timer is set
        self._is_withheld_timer_set = False
        self._is_send_queued = False

    async def on_start(self, context: Context[RoomMessage]) -> None:
        """Continue where the last incarnation stopped, if there was one."""
        self._context = context
        self._delivery = Delivery(self._state, self._engine, self._options, context)
        if self._state.delivered is None:
            self._state.delivered = await self._engine.position(self._state.name)
        else:
            await self._delivery.or_retry(self._delivery.catch_up)
        self._set_timer()
        self._state.fanout.on_withheld = self._set_withheld_timer
        if self._state.roster.has_withheld:
            self._set_withheld_timer()
        await self._state.fanout.send_queued()

    def is_idle(self) -> bool:
        """Whether the room is empty."""
        state = self._state
        return state.roster.is_empty and not state.presence.batch.is_pending and state.pending_append is None

    def receive_nowait(self, message: RoomMessage) -> bool:
        """See Actor: the fast paths of `_publish` and of `_handle_feed_events`."""
        if isinstance(message, Publish):
            tell = self._context.ref.tell_always
            return publish_nowait(self._state, self._engine, self._options, message, tell)
        if isinstance(message, FeedEvents):
            return deliver_nowait(self._state, message)
        return isinstance(message, AppendDone) and answer_append_nowait(self._state)

    async def on_stop(self) -> None:
        """Answer the publish that is still on its way to the engine."""
        await self._answer_append()
        await self._state.fanout.send_queued()
        self._state.fanout.on_withheld = do_nothing

    async def _answer_append(self) -> None:
        """Wait for the append that was begun in a borrowed turn, if there is one, and queue the answer."""
        pending = self._state.pending_append
        if pending is None:
            return
        result = await pending.wait()
        self._state.pending_append = None
        if isinstance(result, EngineUnavailableError):
            answer_unavailable(self._state, pending.publish, result)
        else:
            self._state.fanout.note_delay(1, pending.began)
            answer_published(self._state, [pending.publish], [result])

    async def receive_batch(self, batch: Batch[RoomMessage]) -> None:
        """Handle all waiting messages, neighbouring publishes together, and so neighbouring events of the feed."""
        if self._state.pending_append is not None:
            await self._answer_append()
            batch.include_new()
        feed_events: list[FeedEvents] = []
        publishes: list[Publish] = []
        for message in batch:
            if isinstance(message, Publish):
                publishes.append(message)
            elif isinstance(message, FeedEvents):
                feed_events.append(message)
            elif isinstance(message, SendQueued):
                self._is_send_queued = False
            elif isinstance(message, AppendDone):
                pass  # answered before the batch
            else:
                try:
                    await self._handle_together(feed_events, publishes)
                except Exception:
                    # It has left the mailbox: a failure before its turn must not lose it, least of all a leave.
                    await self.receive(message)  # noqa: ASYNC120  # if cancelled, that is how it ends
                    raise
                feed_events, publishes = [], []
                await self.receive(message)
        await self._handle_together(feed_events, publishes)
        await self._send_or_continue()

    async def _send_or_continue(self) -> None:
        """Send what is queued. A large room handles new publishes after each time slice, so that they are joined."""
        fanout = self._state.fanout
        if not fanout.can_join:
            await fanout.send_queued()
            return
        await fanout.send_some()
        if fanout.is_pending and not self._is_send_queued:
            try:
                # One at a time: bounded.
                self._context.ref.tell_always(SendQueued())
                self._is_send_queued = True
            except ActorStoppedError:
                await fanout.send_queued()

    async def _handle_together(self, feed_events: Sequence[FeedEvents], publishes: Sequence[Publish]) -> None:
        try:
            if feed_events:
                await self._handle_feed_events(feed_events)
        except Exception:
            await self._publish(publishes)  # noqa: ASYNC120  # if cancelled, that is how it ends
            raise
        await self._publish(publishes)

    async def receive(self, message: RoomMessage) -> None:
        """Handle one message that is no publish; if the engine is unavailable, it is answered and the room goes on."""
        try:
            await self._handle(message)
        except EngineUnavailableError as error:
            answer_unavailable(self._state, message, error)
        finally:
            if self._state.roster.is_empty and self._state.subscription.is_open:
                self._state.subscription.close()
                self._state.presence.forget_remote_members()
        await self._state.fanout.send_queued()

    async def _handle(self, message: RoomMessage) -> None:  # noqa: C901, PLR0912  # one case for each message
        match message:
            case Join():
                await self._join(message)
            case Leave():
                self._leave(message)
            case SendPresence() | ShowInfo() | SetState() | SendPresenceBatch():
                self._handle_presence(message)
            case SendHistory() | ReadHistory():
                await self._read_history(message)
            case Remove(user_id, reply):
                await self._remove(user_id, reply)
            case CatchUp():
                await self._delivery.handle_catch_up()
                await self._delivery.or_retry(self._read_remote_members)
            case RemoteChanged() | ReadRemoteMembers() | RemoveHere():
                await self._delivery.or_retry(partial(self._handle_remote, message))
            case Inspect():
                await self._inspect(message)
            case SendWithheld():
                self._is_withheld_timer_set = False
                self._state.fanout.queue_withheld(self._state.roster)
            case SendQueued() | AppendDone():
                pass  # as after any message
            case Publish():
                await self._publish([message])
            case FeedEvents():
                await self._handle_feed_events([message])
            case Call() | TimerDue() | TaskEnded() | ForCode():
                self._handle_without_code(message)

    def _handle_without_code(self, message: Call | TimerDue | TaskEnded | ForCode) -> None:
        """Handle a message for the code of a room that has none."""
        match message:
            case Call():
                answer_refused(self._state, message, NO_CALLS)
            case TimerDue(reply=reply):
                reply.set(None)
            case TaskEnded() | ForCode():
                pass

    async def _join(self, join: Join) -> None:
        missed = await self._admit(join)
        if missed is not None:
            self._add(join, *missed)

    async def _admit(self, join: Join) -> tuple[Sequence[Event], bool] | None:
        """Return the events that a member gets at its join, and whether it has missed none; None if it was refused."""
        state, member = self._state, join.member
        if self._engine.feed is not None:
            await self._subscribe()
        most = self._options.max_members
        if most is not None and not state.presence.has_space(member, most):
            join.reply.fail(
                Refused(ErrorCode.ROOM_FULL, "the room is full (max_members)", why=RefusalReason.ROOM_MEMBERS)
            )
            return None
        if join.last is None and join.since is None:
            return _NOTHING_MISSED
        is_wanted = None if join.wanted is None else partial(is_for, member=member, wanted=join.wanted)
        if join.last is None:
            return await self._delivery.missed_since(join.since, is_wanted)
        return await self._delivery.newest(join.last, is_wanted), False

    def _add(self, join: Join, missed: Sequence[Event], is_recovered: bool) -> None:
        """Add a member and answer its join."""
        state, member = self._state, join.member
        events = choose_stored(missed, member, join.wanted, state.name, self._delivery.position.epoch)
        is_new = state.presence.add(member)
        if join.wanted is not None or state.roster.has_choices:
            state.roster.choose(member, join.wanted)
        member.added_to(state.name, self._context.ref)
        listed = None
        if join.by is not None:
            # The other half is for events.
            listed = list_members(state.presence, join.by, self._options.page_bytes // 2)
        joined = Joined(
            *(
                state.name,
                state.presence.size,
                self._delivery.position,
                is_recovered,
                events,
                join.request_id,
            ),
            member.shown.connection,
            listed,
        )
        if self._options.holds_back and not is_new:
            state.fanout.queue_for(member, self._release_held)
        reply_to(state, member, *joined_in_pages(joined, self._options.page_bytes), reply=join.reply)
        if is_new and member.is_visible:
            self._queue_presence(state.presence.note_joined(member))

    def _release_held(self, member: Member) -> None:
        """Send a member that joins again what was held back for it: `joined` has a later position."""
        member.outbox.release(self._state.name)

    async def _subscribe(self) -> None:
        """Subscribe to the feed, then read the room's position, so that no event falls between the two."""
        state, feed = self._state, self._engine.feed
        if feed is None or state.subscription.is_open:
            return
        await state.subscription.open(feed, self._context.ref)
        # No member is in the room yet, so earlier events have no recipient.
        state.delivered = await self._engine.position(state.name)
        await state.presence.load_remote_members()

    async def _inspect(self, inspect: Inspect) -> None:
        if self._engine.feed is not None and not self._state.subscription.is_open:
            # Without members there is no subscription, so the position may be out of date.
            self._state.delivered = await self._engine.position(self._state.name)
            await self._state.presence.load_remote_members()
        presence = list_members(self._state.presence, inspect.by, self._options.page_bytes)
        inspect.reply.set(attrs.evolve(self._state.info(), presence=presence))

    async def _handle_remote(self, message: RemoteChanged | ReadRemoteMembers | RemoveHere) -> None:
        presence = self._state.presence
        if not self._state.subscription.is_open:
            return
        match message:
            case RemoteChanged(change):
                notices = presence.apply(change)
                if notices is None:
                    await self._read_remote_members()
                else:
                    self._queue_presence(notices)
            case RemoveHere(user_id):
                self._remove_here(user_id)
            case ReadRemoteMembers(lost_node):
                if lost_node is None or lost_node in presence.remote.nodes:
                    await self._read_remote_members()

    async def _read_remote_members(self) -> None:
        """Queue notices of the changes on other nodes."""
        presence = self._state.presence
        notices, must_read_again = await presence.read_remote_members()
        self._queue_presence(notices)
        if must_read_again and presence.bus is not None:
            self._context.tell_later(presence.bus.lease_seconds, ReadRemoteMembers())

    def _leave(self, leave: Leave) -> None:
        self._end_membership(leave.member)
        if leave.is_answered:
            reply_to(self._state, leave.member, Left(self._state.name, leave.request_id))

    async def _remove(self, user_id: str, reply: Reply[int]) -> None:
        has_members = self._state.subscription.is_open
        count = self._remove_here(user_id)
        reply.set(count + await self._state.presence.remove_elsewhere(user_id, has_members=has_members))

    def _remove_here(self, user_id: str) -> int:
        def remove(member: Member) -> None:
            member.outbox.reply(Left(self._state.name))
            member.removed_from(self._state.name)

        members = self._state.roster.members_of(user_id)
        for member in members:
            self._end_membership(member)
            self._state.fanout.queue_for(member, remove)
        return len(members)

    def _end_membership(self, member: Member) -> None:
        """Take out a member, if it is in: it left, was removed, or its connection ended."""
        self._queue_presence(self._state.presence.remove(member))

    def _handle_presence(self, message: SendPresence | ShowInfo | SetState | SendPresenceBatch) -> None:
        match message:
            case SendPresence(member, request_id, reply, by):
                notice = list_members(self._state.presence, by, self._options.page_bytes, request_id)
                reply_to(self._state, member, notice, reply=reply)
            case ShowInfo(member):
                self._queue_presence(self._state.presence.show_info(member))
            case SetState():
                self._set_state(message)
            case SendPresenceBatch():
                self._send_presence_batch()

    def _set_state(self, message: SetState) -> None:
        member, request_id, room = message.member, message.request_id, self._state.name
        if member not in self._state.roster:
            refused = Refused(ErrorCode.NOT_IN_ROOM, "join the room first")
            reply_to(self._state, member, Failed(refused, request_id))
            return
        self._queue_presence(self._state.presence.set_state(member, message.state))
        if request_id is not None:
            reply_to(self._state, member, Acknowledged(room, None, request_id))

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
            return
        if self._engine.feed is None:
            await self._delivery.deliver(receipts)
        await self._count_elsewhere(publishes)
        state.fanout.note_delay(len(publishes), began)
        answer_published(state, publishes, receipts)

    async def _count_elsewhere(self, publishes: Sequence[Publish]) -> None:
        """Read who is present on other nodes if no member is on this one, as the answer to a service holds the number."""
        state = self._state
        is_known = self._engine.feed is None or state.subscription.is_open
        if not is_known and any(publish.reply is not None for publish in publishes):
            with suppress(EngineUnavailableError):
                await state.presence.load_remote_members()

    async def _handle_feed_events(self, batches: Sequence[FeedEvents]) -> None:
        for batch in batches:
            self._state.subscription.note_handled(batch)
        if self._state.subscription.is_open:
            await self._delivery.deliver_feed(batches)

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
                room, wanted = self._state.name, self._state.roster.wanted_by(member)
                events = choose_stored(run.events, member, wanted, room, run.position.epoch)
                page = HistoryPage(room, events, run.position, request_id)
                reply_to(self._state, member, page, reply=reply)
            case ReadHistory(reply=run_reply):
                run_reply.set(run)

    def _set_withheld_timer(self) -> None:
        if not self._is_withheld_timer_set:
            self._is_withheld_timer_set = True
            self._context.tell_later(WITHHELD_SECONDS, SendWithheld())

    def _queue_presence(self, notices: Sequence[Notice]) -> None:
        if notices:
            self._state.fanout.queue(self._state.roster, notices)
        self._set_timer()

    def _send_presence_batch(self) -> None:
        if self._batch_at is None or trio.current_time() < self._batch_at:
            return  # from the timer of an incarnation that failed
        self._batch_at = None
        self._queue_presence(self._state.presence.take_batch())

    def _set_timer(self) -> None:
        if self._state.presence.batch.is_pending and self._batch_at is None:
            self._batch_at = trio.current_time() + self._options.gather_seconds
            self._context.tell_later(self._options.gather_seconds, SendPresenceBatch())
