"""Delivers events to the members of a room in the order of their offsets, behind any that were missed."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from actors import Context
from broker.engine.base import Engine, Receipt
from broker.errors import EngineUnavailableError
from broker.model import Event, Position
from broker.notices import Notice, RoomEvent
from broker.rooms.feed_order import order_feed_events
from broker.rooms.history import read_missed
from broker.rooms.messages import CatchUp, FeedEvents, RoomMessage
from broker.rooms.recovery import count_fitting, missed_notices
from broker.rooms.state import RoomOptions, RoomState


class Delivery:
    """Queues events on the Fanout and moves the delivered position with them; the room sends what is queued.

    Part of one incarnation of a room, as its retry is a timer of the actor.
    """

    def __init__(
        self, state: RoomState, engine: Engine, options: RoomOptions, context: Context[RoomMessage]
    ) -> None:
        self._state = state
        self._engine = engine
        self._options = options
        self._context = context
        self._is_retry_set = False

    @property
    def position(self) -> Position:
        """The position up to which the members have all events, in their outboxes or in the queue."""
        assert self._state.delivered is not None, "the room's first start sets it"
        return self._state.delivered

    async def deliver(self, receipts: Sequence[Receipt]) -> None:
        """Queue the events just appended, behind any that this room has missed."""
        stored = [r.position for r in receipts if r.event is not None and r.position is not None]
        events = [r.event for r in receipts if r.event is not None]
        if not stored:
            self._queue_events(events, self.position)
        elif stored[0].is_next_to(self.position):
            self._queue_events(events, stored[-1])
        else:
            name, epoch = self._state.name, stored[0].epoch
            await self._catch_up_or_retry([RoomEvent(name, epoch, e) for e in events if e.offset is not None])
            self._queue_events([event for event in events if event.offset is None], self.position)

    async def deliver_feed(self, batches: Sequence[FeedEvents]) -> None:
        """Queue events of the feed, behind those that are missing before them."""
        rest = self._queue_in_order(batches)
        if rest:
            name = self._state.name
            stored = [RoomEvent(name, b.epoch, e) for b in rest for e in b.events if e.offset is not None]
            await self._catch_up_or_retry(stored)
            self._queue_in_order(rest)

    async def catch_up(self, own: Sequence[RoomEvent] = ()) -> None:
        """Queue all events of the engine that were not delivered: the one recovery from missed events.

        `own` was just appended, here or elsewhere; the engine may keep no history of it.

        :raises EngineUnavailableError: if the engine cannot be read.
        """
        state, delivered = self._state, self.position
        run = await self._engine.read(state.name, after=delivered.offset)
        if run.position.epoch != delivered.epoch:
            # The engine has lost the room, so all events that it holds now are new.
            run = await self._engine.read(state.name)
        self._queue_up_to(run.position, missed_notices(state.name, delivered, run, own))

    async def missed_since(
        self, since: Position | None, is_wanted: Callable[[Event], bool] | None = None
    ) -> tuple[tuple[Event, ...], bool]:
        """Return the events after `since` up to the last delivered one, and whether they are complete.

        Their bytes are limited; with `is_wanted`, the bytes of those that are.

        :raises EngineUnavailableError: if the engine cannot be read.
        """
        if since is None:
            return (), False
        if self._is_ahead(since):
            # Another node may have delivered events that this one has not received yet.
            await self.catch_up()
        if self._is_ahead(since):
            return (), False
        return await read_missed(
            self._engine,
            self._state.name,
            since,
            self.position.offset,
            page_messages=self._options.page_messages,
            most_bytes=self._options.recovery_bytes,
            is_wanted=is_wanted,
        )

    async def newest(self, count: int, is_wanted: Callable[[Event], bool] | None = None) -> tuple[Event, ...]:
        """Return the newest `count` held events up to the last delivered one, oldest first; at most a page of them.

        With `is_wanted`, only those that are count, and all from the first of them on are returned.

        :raises EngineUnavailableError: if the engine cannot be read.
        """
        name, page = self._state.name, self._options.page_messages
        limit = page if is_wanted is not None else min(count, page)
        run = await self._engine.read(name, limit=limit, reverse=True)
        if run.position != self.position:
            # Another node has appended events that this one has not received yet.
            await self.catch_up()
            run = await self._engine.read(name, limit=limit, reverse=True)
        if run.position.epoch != self.position.epoch:
            return ()
        # Later ones are still to be delivered, also to this member.
        held = [e for e in run.events if e.offset is not None and e.offset <= self.position.offset]
        wanted = [event for event in held if is_wanted is None or is_wanted(event)][:count]
        wanted = wanted[: count_fitting(name, wanted, self._options.page_bytes)]
        if not wanted:
            return ()
        return tuple(reversed(held[: held.index(wanted[-1]) + 1]))

    async def or_retry(self, action: Callable[[], Awaitable[None]]) -> None:
        """Run `action`; if the engine is unavailable, a CatchUp follows once it may be back, one at a time."""
        try:
            await action()
        except EngineUnavailableError as error:
            if not self._is_retry_set:
                self._is_retry_set = True
                self._context.tell_later(error.retry_after_ms / 1000, CatchUp())

    async def handle_catch_up(self) -> None:
        """Handle a CatchUp: catch up now, or later if the engine is unavailable again."""
        self._is_retry_set = False
        self._state.subscription.begin_catch_up()
        await self._catch_up_or_retry()

    async def _catch_up_or_retry(self, own: Sequence[RoomEvent] = ()) -> None:
        await self.or_retry(partial(self.catch_up, own))

    def _is_ahead(self, since: Position) -> bool:
        return since.epoch != self.position.epoch or since.offset > self.position.offset

    def _queue_in_order(self, batches: Sequence[FeedEvents]) -> Sequence[FeedEvents]:
        """Queue the events that follow the last delivered one; returns the rest."""
        deliverable = order_feed_events(self.position, batches)
        if deliverable.events:
            self._queue_events(deliverable.events, deliverable.position)
        return deliverable.rest

    def _queue_events(self, events: Sequence[Event], position: Position) -> None:
        self._queue_up_to(position, [RoomEvent(self._state.name, position.epoch, event) for event in events])

    def _queue_up_to(self, position: Position, notices: Sequence[Notice]) -> None:
        """Queue notices for all members, which then have everything up to `position`."""
        if position.epoch != self.position.epoch:
            self._state.roster.forget_withheld()
        if notices:
            self._state.fanout.queue(self._state.roster, notices)
            self._state.messages_sent += len(notices)
        self._state.delivered = position
