"""The host of a room with code where nodes share the store: one node owns the room, and runs all its turns.

On the other nodes the room has its members and brings them what is published, as any room. Their requests go to the
owner (`Forwarder`), whose answers come back. On the owner, members of other nodes are `Guests`.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import trio

from actors import Context
from broker.engine.base import Receipt
from broker.engine.presence import PresenceBus
from broker.engine.room_store import OwnedElsewhereError, OwnershipLostError
from broker.errors import EngineTrouble, EngineUnavailableError, Refused
from broker.model import Event, Position, Shown
from broker.notices import RoomEvent
from broker.room_actors.forwarder import Departure, Forwarded, Forwarder, Outgoing
from broker.room_actors.guests import Guests
from broker.room_actors.host import ActorHost, LeaveTurn, TurnMessage, Waiting
from broker.room_actors.peer_messages import (
    Answer,
    CallRequest,
    CheckGuests,
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
from broker.room_actors.peer_router import LOST_RETRY_MS, PeerRouter
from broker.room_actors.turn import PrivateSay
from broker.room_actors.values import Member, Refusal, member_of
from broker.rooms import member as rooms_member
from broker.rooms.answers import answer_published, answer_refused, answer_unavailable, reply_to
from broker.rooms.choice import is_for
from broker.rooms.messages import (
    Call,
    Join,
    Publish,
    ReadRemoteMembers,
    RemoteChanged,
    RoomMessage,
    TaskEnded,
    TimerDue,
)
from broker.rooms.turn_tally import TurnKind

RELEASE_SECONDS = 1.0
"""Longest wait, as a room stops, until it is given up. Else the others wait for the end of the node's lease."""
LOOK_SECONDS = 0.1
"""Time between two looks at the requests that wait for the owner or its answers."""


class SharedHost(ActorHost):
    """See the module."""

    def __init__(
        self,
        *args: Any,
        guests: Guests,
        forwarder: Forwarder,
        router: PeerRouter,
        bus: PresenceBus,
        **kwargs: Any,
    ) -> None:
        """`guests` and `forwarder` outlive a failure; the other arguments are those of ActorHost."""
        super().__init__(*args, **kwargs)
        self._guests = guests
        self._forwarder = forwarder
        self._router = router
        self._bus = bus
        self._is_check_set = False

    async def on_start(self, context: Context[RoomMessage]) -> None:
        """See Room; the timers of the incarnation before have ended with it."""
        await super().on_start(context)
        self._forwarder.is_timer_set = False
        self._set_look_timer()
        self._set_check_timer()

    def is_idle(self) -> bool:
        """See Actor: neither members here nor elsewhere need the room."""
        return super().is_idle() and not self._guests and not self._forwarder.is_busy

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

    async def _prepare_open(self) -> None:
        if not self._guests.is_known:
            self._guests.learn(await self._bus.read_remote_presence(self._state.name))

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

    # The owner: turns for members here and elsewhere.

    async def _turn_of(self, message: TurnMessage) -> None:
        if await self._is_done_here(message):
            self._set_check_timer()
            if isinstance(message, GuestRequest):
                await self._turn_of_guest(message)
            else:
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

    async def _turn_of_guest(self, message: GuestRequest) -> None:
        match message.request:
            case JoinRequest(number, _, shown):
                await self._turn_of_guest_join(message, number, shown)
            case LeaveRequest(number, _, shown):
                await self._turn_of_guest_leave(message, Done(number), shown)
            case PublishRequest(number, _, draft, shown):
                sender = await self._sender(message.node, shown)
                await self._turn_of_publish(
                    message, draft, sender, lambda receipt: message.answer(Done(number, receipt.position))
                )
            case CallRequest(number, _, method, data, key, shown):
                sender = await self._sender(message.node, shown)
                await self._turn_of_call(
                    *(message, Call(method, data, key), sender),
                    lambda content: message.answer(Done(number, content=content)),
                )

    async def _turn_of_guest_join(self, message: GuestRequest, number: int, shown: Shown) -> None:
        guests, connection = self._guests, shown.connection

        def finish(receipts: Sequence[Receipt]) -> None:
            events = [receipt.event for receipt in receipts if receipt.event is not None]
            position = next((r.position for r in receipts if r.position is not None), None)
            guests.note_joined(connection, position)
            message.answer(Done(number, position, events=tuple(events)))

        def finish_again(_receipts: Sequence[Receipt]) -> None:
            message.answer(Done(number, guests.joined_at(connection)))

        if connection in guests:
            # Its node did not hear the answer, and has asked again.
            self._run_nothing(message, finish_again)
            return
        joining = member_of(shown)
        await self._run(TurnKind.JOIN, lambda actor: actor.on_join(joining), message, finish)
        self._add_guest(message.node, shown)

    async def _turn_of_guest_leave(self, message: GuestRequest, done: Done, shown: Shown) -> None:
        self._guests.discard(shown.connection)

        def finish(_receipts: Sequence[Receipt]) -> None:
            message.answer(done)

        if self._guests.is_gone(shown.connection):
            # It has had this turn when it was lost.
            self._guests.note_left(shown.connection)
            self._run_nothing(message, finish)
            return
        leaving = member_of(shown)
        await self._run(TurnKind.LEAVE, lambda actor: actor.on_leave(leaving), message, finish)

    async def _sender(self, node: str, shown: Shown | None) -> Member | None:
        if shown is None:
            return None
        if self._guests.is_gone(shown.connection):
            await self._let_back(node, shown)
        # It may have joined while the room had another owner, and its node not have told of it.
        self._add_guest(node, shown)
        return member_of(shown)

    def _add_guest(self, node: str, shown: Shown) -> None:
        self._guests.add(node, shown)
        self._set_check_timer()

    def _answer_unavailable(self, message: TurnMessage, error: EngineUnavailableError) -> None:
        match message:
            case GuestRequest(request=JoinRequest(member=member)):
                self._guests.discard(member.connection)
            case GuestRequest(node, LeaveRequest(member=member)):
                # Its node asks no more: the member is found to be lost, and has its turn then.
                self._add_guest(node, member)
            case _:
                pass
        super()._answer_unavailable(message, error)

    def _say_to_some(self, say: PrivateSay, time_ms: int) -> None:
        super()._say_to_some(say, time_ms)
        for node in self._guests.nodes_of(say):
            self._router.queue(self._state.name, node, Said(say, time_ms))

    async def _check_guests(self) -> None:
        """Learn of the members of other nodes: run the leaves of those whose nodes have died, and the joins of those that are back."""
        guests, failure = self._guests, None
        if not self._may_have_guests():
            return
        with suppress(EngineUnavailableError):
            presence = await self._bus.read_remote_presence(self._state.name)
            self._left += guests.take_lost(presence)
            for node, shown in guests.learn_found(presence):
                try:
                    await self._let_back(node, shown)
                except EngineUnavailableError:
                    raise
                except Exception as error:  # noqa: BLE001  # raised below: the others are back as well
                    failure = error
                    self._runner.close()
        if guests.must_check_again:
            self._set_check_timer()
        if failure is not None:
            raise failure

    async def _let_back(self, node: str, shown: Shown) -> None:
        """Run the join of a member whose leave was run as its node was taken to be dead; it cannot be refused.

        :raises EngineUnavailableError: if that cannot be stored: then it is to be tried again.
        """
        await self._store()
        joining = member_of(shown)
        try:
            await self._run(TurnKind.JOIN, lambda actor: actor.on_join(joining))
        except Refusal:
            pass
        except EngineUnavailableError:
            raise
        except Exception:
            self._guests.add(node, shown)
            raise
        done = await self._write()
        self._guests.add(node, shown)
        await self._finish(done)

    async def _turn_of_leave(self, message: LeaveTurn, member: Shown) -> None:
        if member.connection not in self._guests:  # it is back, and the turn was put off
            await super()._turn_of_leave(message, member)

    def _may_have_guests(self) -> bool:
        """Whether there are members on other nodes, or may be: where there are some here, the feed tells of the others."""
        state = self._state
        is_told = state.subscription.is_open and not state.presence.remote.size
        return bool(self._guests) or (self._runner.is_open and not is_told)

    def _set_check_timer(self) -> None:
        """Let the members be checked a lease from now.

        Each turn sets it, so that a room without members that does nothing passivates.
        """
        if not self._is_check_set and self._may_have_guests():
            self._is_check_set = True
            self._context.tell_later(self._bus.lease_seconds, CheckGuests())

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
            case CheckGuests():
                self._is_check_set = False
                await self._check_guests()
            case RemoteChanged() | ReadRemoteMembers():
                await super()._handle(message)
                self._set_check_timer()
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
                    super()._say_to_some(say, time_ms)
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
