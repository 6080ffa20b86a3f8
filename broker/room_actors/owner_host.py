"""The host of a room with code on the node that owns it, where nodes share the store: turns for members of other nodes.

Those are `Guests`. Their nodes send requests, and tell who is present.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from actors import Context
from broker.engine.base import Receipt
from broker.engine.presence import PresenceBus
from broker.errors import EngineUnavailableError
from broker.model import Shown
from broker.room_actors.guests import Guests
from broker.room_actors.host import ActorHost
from broker.room_actors.peer_messages import (
    CallRequest,
    CheckGuests,
    Done,
    GuestRequest,
    JoinRequest,
    LeaveRequest,
    PublishRequest,
    Said,
)
from broker.room_actors.peer_router import PeerRouter
from broker.room_actors.turn import PrivateSay
from broker.room_actors.turn_host import LeaveTurn, TurnMessage
from broker.room_actors.values import Member, Refusal, member_of
from broker.rooms.messages import Call, ReadRemoteMembers, RemoteChanged, RoomMessage
from broker.rooms.turn_tally import TurnKind


class OwnerHost(ActorHost):
    """See the module."""

    def __init__(
        self, *args: Any, guests: Guests, router: PeerRouter, bus: PresenceBus, **kwargs: Any
    ) -> None:
        """`guests` outlives a failure; the other arguments are those of ActorHost."""
        super().__init__(*args, **kwargs)
        self._guests = guests
        self._router = router
        self._bus = bus
        self._is_check_set = False

    async def on_start(self, context: Context[RoomMessage]) -> None:
        """See Room; the timers of the incarnation before have ended with it."""
        await super().on_start(context)
        self._set_check_timer()

    def is_idle(self) -> bool:
        """See Actor: members elsewhere need the room too."""
        return super().is_idle() and not self._guests

    async def _prepare_open(self) -> None:
        if not self._guests.is_known:
            self._guests.learn(await self._bus.read_remote_presence(self._state.name))

    async def _turn_of(self, message: TurnMessage) -> None:
        self._set_check_timer()
        if isinstance(message, GuestRequest):
            await self._turn_of_guest(message)
        else:
            await super()._turn_of(message)

    async def _handle(self, message: RoomMessage) -> None:
        match message:
            case CheckGuests():
                self._is_check_set = False
                await self._check_guests()
            case RemoteChanged() | ReadRemoteMembers():
                await super()._handle(message)
                self._set_check_timer()
            case _:
                await super()._handle(message)

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
