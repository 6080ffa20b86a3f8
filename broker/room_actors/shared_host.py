"""The host of a room with code where nodes share the store: one node owns the room, and runs all its turns.

On the other nodes the room has its members and brings them what is published, as any room. Their requests go to the
owner (`Forwarder`), whose answers come back. `OwnerHost` is the side of the owner.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import trio

from actors import Context
from broker.engine.base import Receipt
from broker.engine.room_store import OwnedElsewhereError, OwnershipLostError
from broker.errors import EngineTrouble, EngineUnavailableError, Refused
from broker.model import Event, Position, Shown
from broker.notices import RoomEvent
from broker.room_actors.forwarder import Departure, Forwarded, Forwarder, Outgoing
from broker.room_actors.owner_host import OwnerHost
from broker.room_actors.peer_messages import (
    Answer,
    CallRequest,
    Done,
    FromOwner,
    GuestRequest,
    JoinRequest,
    LeaveRequest,
    LookForOwner,
    Moved,
    NotDone,
    NotSent,
    PeersBehind,
    Probe,
    PublishRequest,
    Request,
    Said,
    Unavailable,
)
from broker.room_actors.peer_router import LOST_RETRY_MS
from broker.room_actors.turn_host import LeaveTurn, TurnMessage, Waiting
from broker.rooms import member as rooms_member
from broker.rooms.answers import answer_published, answer_refused, answer_unavailable, reply_to
from broker.rooms.choice import is_for
from broker.rooms.messages import Call, Join, Publish, RoomMessage, TaskEnded, TimerDue

RELEASE_SECONDS = 1.0
"""Longest wait, as a room stops, until it is given up. Else the others wait for the end of the node's lease."""
LOOK_SECONDS = 0.1
"""Time between two looks at the requests that wait for the owner or its answers."""


class SharedHost(OwnerHost):
    """See the module."""

    def __init__(self, *args: Any, forwarder: Forwarder, **kwargs: Any) -> None:
        """Forward by `forwarder`, which outlives a failure; the other arguments are those of OwnerHost."""
        super().__init__(*args, **kwargs)
        self._forwarder = forwarder

    async def on_start(self, context: Context[RoomMessage]) -> None:
        """See Room; the timers of the incarnation before have ended with it."""
        await super().on_start(context)
        self._forwarder.is_timer_set = False
        self._set_look_timer()

    def is_idle(self) -> bool:
        """See Actor."""
        return super().is_idle() and not self._forwarder.is_busy

    async def on_stop(self) -> None:
        """See ActorHost; another node may own the room then."""
        self._give_up([*self._forwarder.take_on_way(), *self._forwarder.take_waiting()])
        is_restarted = self._has_failed
        try:
            await super().on_stop()
        finally:
            # Whatever `on_close` does, and however long it takes.
            if not is_restarted:
                self._guests.forget()
                with trio.move_on_after(RELEASE_SECONDS, shield=True), suppress(EngineUnavailableError):
                    await self._runner.release()  # noqa: ASYNC102  # the shield has a deadline

    # Ownership.

    async def _is_owner(self) -> bool:
        """Whether this node owns the room; it becomes the owner if there is none.

        :raises EngineUnavailableError: if that cannot be known.
        :raises Exception: of the application's code, in `on_open`.
        """
        if self._runner.is_open:
            return True
        # What comes later must not overtake the requests that are on their way. An owner that is gone sends them back,
        # or does not receive them.
        if self._forwarder.is_busy or self._forwarder.owner is not None:
            return False
        return await self._try_to_own()

    async def _try_to_own(self) -> bool:
        try:
            await super()._open()
        except OwnedElsewhereError as elsewhere:
            self._guests.forget()
            self._forwarder.owner = elsewhere.node
            return False
        self._forwarder.owner = None
        self._set_check_timer()
        return True

    async def _open(self) -> None:
        """See ActorHost.

        :raises OwnershipLostError: if another node owns the room.
        """
        if not self._runner.is_open and not await self._try_to_own():
            raise OwnershipLostError

    async def _write(self) -> list[tuple[Waiting, Sequence[Receipt]]]:
        try:
            return await super()._write()
        except OwnershipLostError:
            self._guests.forget()
            raise

    async def _turn_of(self, message: TurnMessage) -> None:
        if await self._is_done_here(message):
            await super()._turn_of(message)
            return
        match message:
            case Publish() | Call():
                self._forward(message)
            case LeaveTurn(member):
                self._forward(Departure(member))
            case GuestRequest(request=request):
                message.answer(Moved(request.number))
            case TimerDue(reply=reply):
                reply.set(None)  # the owner fires it
            case TaskEnded():
                pass  # of a time when this node was the owner

    async def _is_done_here(self, message: TurnMessage) -> bool:
        if isinstance(message, TimerDue) and not self._forwarder.is_busy:
            # The store brings it to this node if no other that is alive owns the room.
            return self._runner.is_open or await self._try_to_own()
        if not isinstance(message, GuestRequest):
            return await self._is_owner()
        request = message.request
        place = message.node, request.generation, request.ordinal
        if self._guests.is_next(*place) and await self._is_owner():
            self._guests.note_next(*place)
            return True
        return False

    # Other nodes: requests to the owner, and its answers.

    async def _join(self, join: Join) -> None:
        is_new = join.member not in self._state.roster and join.member.is_visible
        if not is_new or await self._is_owner():
            await super()._join(join)
        elif await self._admit(join) is not None:
            self._forward(join)

    def _end_membership(self, member: rooms_member.Member) -> None:
        join = self._forwarder.find_join(member.shown.connection)
        if join is not None:
            join.has_left = True
        super()._end_membership(member)

    def _forward(self, message: Forwarded) -> None:
        outgoing = Outgoing(next(self._router.numbers), message, trio.current_time())
        if self._forwarder.is_full:
            self._give_up([outgoing])
            return
        self._forwarder.add(outgoing)
        self._send_to_owner()

    def _send_to_owner(self) -> None:
        forwarder = self._forwarder
        owner = forwarder.owner
        for outgoing in forwarder.take_sendable(trio.current_time()):
            assert owner is not None, "see take_sendable"
            self._router.queue(self._state.name, owner, _request_of(outgoing, forwarder.generation))
        self._set_look_timer()

    def _set_look_timer(self) -> None:
        if self._forwarder.is_busy and not self._forwarder.is_timer_set:
            self._forwarder.is_timer_set = True
            self._context.tell_later(LOOK_SECONDS, LookForOwner())

    async def _handle(self, message: RoomMessage) -> None:
        match message:
            case FromOwner(items):
                await self._take_items(items)
            case NotSent(numbers, is_certain):
                if is_certain:
                    self._forwarder.give_back(numbers)
                else:
                    self._give_up(filter(None, map(self._forwarder.take_answered, numbers)))
            case PeersBehind():
                self._give_up(self._forwarder.take_on_way())
            case LookForOwner():
                self._forwarder.is_timer_set = False
                await self._look_for_owner()
                self._set_look_timer()
            case _:
                await super()._handle(message)

    async def _look_for_owner(self) -> None:
        """Give up requests that wait for too long; send or do the others, if there is another owner by now."""
        forwarder, now = self._forwarder, trio.current_time()
        self._give_up(forwarder.take_expired(now))
        if not forwarder.is_busy or not forwarder.may_check(now):
            return
        before = forwarder.owner
        try:
            is_owner = await self._try_to_own()
        except EngineUnavailableError:
            return
        if is_owner or forwarder.owner != before:
            # The owner that they were sent to is gone; it may have done them.
            self._give_up(forwarder.take_on_way())
        elif numbers := forwarder.numbers_on_way:
            assert before is not None, "they were sent to it"
            self._router.queue(self._state.name, before, Probe(numbers))
        if is_owner:
            await self._do_here(forwarder.take_waiting())
        else:
            self._send_to_owner()

    async def _do_here(self, waiting: Sequence[Outgoing]) -> None:
        """Do requests that were to be sent to the owner, as this node is the owner now."""
        remaining = list(waiting)
        try:
            while remaining:
                await self._do_one_here(remaining.pop(0))
        except Exception:
            for outgoing in remaining:
                self._forwarder.add(outgoing)
            raise
        await self._store()

    async def _do_one_here(self, outgoing: Outgoing) -> None:
        match outgoing.message:
            case Join() as join:
                await self._store()
                if outgoing.has_left:
                    join.reply.set(None)
                    return
                try:
                    await self._join(join)
                except EngineUnavailableError as error:
                    self._answer_failed(join, error)
            case Departure(shown):
                await self._take_turn(LeaveTurn(shown))
            case Publish() | Call() as message:
                await self._take_turn(message)

    async def _take_items(self, items: Sequence[Answer | Said]) -> None:
        moved: list[int] = []
        # A member is in the room before it gets what its own join has led to.
        for item in sorted(items, key=self._is_no_join):
            match item:
                case Said(say, time_ms):
                    self._say_here(say, time_ms)
                case Moved(number):
                    moved.append(number)
                case _:
                    outgoing = self._forwarder.take_answered(item.number)
                    if outgoing is not None:
                        await self._take_answer(outgoing, item)
        self._forwarder.give_back(moved)

    def _is_no_join(self, item: Answer | Said) -> bool:
        if not isinstance(item, Done):
            return True
        outgoing = self._forwarder.on_way(item.number)
        return outgoing is None or not isinstance(outgoing.message, Join)

    async def _take_answer(self, outgoing: Outgoing, answer: Done | NotDone | Unavailable) -> None:
        match answer:
            case Unavailable():
                self._answer_failed(outgoing.message, answer.as_error())
            case NotDone():
                self._answer_not_done(outgoing.message, answer.as_refused())
            case Done():
                match outgoing.message:
                    case Join():
                        await self._finish_join(outgoing.message, answer, has_left=outgoing.has_left)
                    case Publish() as publish:
                        await self._count_elsewhere([publish])
                        answer_published(self._state, [publish], [Receipt(answer.position, None)])
                    case Call() as call:
                        self._answer_call(call, answer.content)
                    case Departure():
                        pass

    async def _finish_join(self, join: Join, done: Done, *, has_left: bool) -> None:
        """Add a member that the owner has let in."""
        member, missed = join.member, None
        if has_left:
            join.reply.set(None)
        else:
            try:
                missed = await self._admit(join)
                if missed is not None and join.since is None and join.last is None:
                    missed = await self._heard_since_join(done), False
            except EngineUnavailableError as error:
                self._answer_failed(join, error)
        if missed is None:
            self._forward(Departure(member.shown))
            return
        self._add(join, *missed)
        epoch = self._delivery.position.epoch
        for event in done.events:
            if event.offset is None and is_for(event, member=member, wanted=join.wanted):
                reply_to(self._state, member, RoomEvent(self._state.name, epoch, event))

    async def _heard_since_join(self, done: Done) -> Sequence[Event]:
        """Return what was said from the turn of a join on and has come here already; what follows comes by the feed.

        :raises EngineUnavailableError: if it cannot be read.
        """
        here, first = self._delivery.position, done.position
        if first is None or first.epoch != here.epoch or first.offset > here.offset:
            return ()
        events, _ = await self._delivery.missed_since(Position(first.epoch, first.offset - 1))
        # A room without history keeps none.
        return events or [e for e in done.events if e.offset is not None and e.offset <= here.offset]

    def _give_up(self, outgoing: Iterable[Outgoing]) -> None:
        """Answer requests of which nobody knows whether they were done, or that have found no owner."""
        for each in outgoing:
            self._answer_failed(
                each.message,
                EngineUnavailableError(
                    "no answer from the room's owner",
                    trouble=EngineTrouble.ROOM_MOVED,
                    retry_after_ms=LOST_RETRY_MS,
                ),
            )

    def _answer_failed(self, message: Forwarded, error: EngineUnavailableError) -> None:
        if not isinstance(message, Departure):
            answer_unavailable(self._state, message, error)

    def _answer_not_done(self, message: Forwarded, refused: Refused) -> None:
        match message:
            case Join(reply=reply):
                reply.fail(refused)
            case Publish() | Call():
                answer_refused(self._state, message, refused)
            case Departure():
                pass


def _request_of(outgoing: Outgoing, generation: int) -> Request:
    number, ordinal = outgoing.number, outgoing.ordinal
    match outgoing.message:
        case Join(member=member):
            return JoinRequest(number, generation, member.shown, ordinal)
        case Departure(shown):
            return LeaveRequest(number, generation, shown, ordinal)
        case Publish(draft, sender):
            return PublishRequest(number, generation, draft, _shown(sender), ordinal)
        case Call(method, data, key, sender):
            return CallRequest(number, generation, method, data, key, _shown(sender), ordinal)


def _shown(sender: rooms_member.Member | None) -> Shown | None:
    return None if sender is None else sender.shown
