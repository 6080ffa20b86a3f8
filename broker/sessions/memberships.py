"""The rooms of one connection: its joins and leaves, and its waits for rooms."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Protocol, TypeAlias

import msgspec
import trio

from actors import ActorError, ActorFailedError, ActorStoppedError, MailboxFullError, Ref, Reply
from broker.auth.permissions import check_last, decide_by_can, recovery_start
from broker.errors import (
    CloseCode,
    Disconnect,
    EngineTrouble,
    EngineUnavailableError,
    ErrorCode,
    Refused,
)
from broker.model import Capability, Claims, Position, PresenceBy, TagFilter, check_room_name
from broker.notices import RequestId
from broker.rooms.member import Member
from broker.rooms.messages import Join, Leave, RoomMessage
from broker.sessions.allowance import Allowance
from broker.sessions.decisions import Decisions
from broker.sessions.services import SessionServices

Rest: TypeAlias = Callable[[], Awaitable[None]]
"""The part of a command that has to be awaited."""


class ClaimsMember(Member, Protocol):
    """A member that joins by the claims of its token, which a new token replaces."""

    claims: Claims


class JoinOptions(msgspec.Struct, frozen=True):
    """The options of a join: recover from `since` or get the newest `last` events, with a list of the members.

    With `wanted`, of all events only those that match.
    """

    since: Position | None = None
    by: PresenceBy | None = None
    last: int | None = None
    wanted: TagFilter | None = None


class Memberships:
    """The rooms that one connection has joined."""

    def __init__(
        self,
        member: ClaimsMember,
        services: SessionServices,
        allowance: Allowance,
        on_waited: Callable[[], None],
        *,
        initial_room: str | None,
        decisions: Decisions | None = None,
    ) -> None:
        """`on_waited` is called after each wait for a room; `initial_room` is meant where a command names none.

        With `decisions`, the application is asked about joins.
        """
        self._waits = 0
        self._joining: set[str] = set()
        """Rooms that are being joined, where the application is asked: several at once."""
        self._decisions = decisions
        self._member = member
        self._services = services
        self._allowance = allowance
        self._on_waited = on_waited
        self._initial_room = initial_room
        self._refs: dict[str, Ref[RoomMessage]] = {}

    @property
    def is_waiting(self) -> bool:
        """Whether a room, or the application, is waited for."""
        return self._waits > 0

    @property
    def rooms(self) -> tuple[str, ...]:
        """The rooms, in the order of their joins."""
        return tuple(self._refs)

    def refs(self) -> list[tuple[str, Ref[RoomMessage]]]:
        """Return a snapshot of the rooms with their refs."""
        return list(self._refs.items())

    def find(self, name: str | None) -> tuple[str, Ref[RoomMessage]]:
        """Return the room that a command names, or means if it names none.

        :raises Refused: `invalid_message` or `not_in_room` if there is none.
        """
        room = self._initial_room if name is None else name
        if room is None:
            raise Refused(ErrorCode.INVALID_MESSAGE, "room: needed, as this connection was made to no room")
        ref = self._refs.get(room)
        if ref is None:
            raise Refused(ErrorCode.NOT_IN_ROOM, "join the room first")
        return room, ref

    def add(self, room: str, ref: Ref[RoomMessage]) -> None:
        """Note that the connection is in a room."""
        self._refs[room] = ref

    def discard(self, room: str) -> None:
        """Note that the connection is not in a room any more, if it was."""
        self._refs.pop(room, None)

    async def join_initial_room(self, options: JoinOptions) -> None:
        """Join the room that the connection was made to.

        :raises Disconnect: 4003 if that is forbidden, 4129 if rate-limited, 1013 if engine or node cannot serve.
        """
        assert self._initial_room is not None
        await self._at_start(partial(self.join, self._initial_room, options))

    async def join_auto_rooms(self) -> None:
        """Join the rooms of the claim `auto_join`, in their order.

        :raises Disconnect: as `join_initial_room`, also if they are more rooms than a connection may be in.
        """
        rooms = [room for room in self._member.claims.auto_join if room not in self._refs]
        if self._decisions is not None and rooms:
            # All at once: in their order, each would wait for the answers about those before it.
            await self._at_start(partial(self._decide_auto_rooms, self._decisions, rooms))
        for room in rooms:
            if room not in self._refs:
                await self._at_start(partial(self._join_decided, room, JoinOptions()))

    async def _decide_auto_rooms(self, decisions: Decisions, rooms: Sequence[str]) -> None:
        for room in rooms:
            self._check_join(room, JoinOptions())
        with self._waiting():
            await decisions.join_all(list(dict.fromkeys(rooms)))

    async def _at_start(self, join: Rest) -> None:
        try:
            await join()
        except Refused as refused:
            code = _CLOSE_CODES.get(refused.code, CloseCode.FORBIDDEN)
            raise Disconnect(code, refused.message, why=refused.why) from None
        except EngineUnavailableError:
            raise Disconnect(CloseCode.TRY_AGAIN_LATER, "engine unavailable") from None

    async def join(self, name: str, options: JoinOptions, request_id: RequestId = None) -> None:
        """Join a room; returns once `joined` is in the outbox. If cancelled, the connection leaves the room.

        :raises Refused: if the name or the options are invalid, or the token, a limit or the node forbids it.
        :raises EngineUnavailableError: if the engine cannot serve, or the room failed.
        """
        if self._decisions is None:
            await self._join_decided(name, options, request_id)
            return
        room = self._check_join(name, options)
        # Before the room hears of it. A present member whose join is refused stays.
        with self._waiting():
            await self._decisions.join(room)
        self._check_join(name, options)
        self._joining.add(room)
        try:
            await self._join_decided(name, options, request_id)
        finally:
            self._joining.discard(room)

    async def _join_decided(self, name: str, options: JoinOptions, request_id: RequestId = None) -> None:
        """Join a room about which the application has decided; the token may be another since, and its rooms more."""
        room = self._check_join(name, options)
        member, was_in = self._member, room in self._refs
        reply: Reply[None] = Reply()
        since = recovery_start(member.claims, options.since)
        message = Join(member, since, request_id, reply, options.by, options.last, options.wanted)
        began = trio.current_time()
        with self._waiting():
            ref = await self._services.rooms.tell(room, message, on_start=self._charge_room)
            try:
                await ref.wait_reply(reply)
            except (EngineUnavailableError, Refused):
                # The room did not add the member.
                raise
            except ActorError as error:
                if not was_in:
                    self.discard(room)
                    send_leave(ref, Leave(member))
                raise EngineUnavailableError("the room failed", trouble=EngineTrouble.ROOM_FAILED) from error
            except BaseException:
                # Cancelled: the join may still be handled, so a leave follows it.
                send_leave(ref, Leave(member))
                raise
        self._services.rooms.tally.joins.note(trio.current_time() - began)

    def _check_join(self, name: str, options: JoinOptions) -> str:
        """Return the room, if the present token and the limits allow the join."""
        claims = self._member.claims
        room = check_room_name(name)
        self._services.policy.check(claims, room, Capability.JOIN)
        if options.by is not None:
            check_can(claims, Capability.PRESENCE)
        if options.last is not None:
            check_last(claims, options.last, options.since)
        limit = self._services.settings.limits.rooms_per_connection
        if self._joining:
            limit -= len(self._joining.difference(self._refs, (room,)))
        if room not in self._refs and len(self._refs) >= limit:
            raise Refused(ErrorCode.TOO_MANY_ROOMS, "leave a room before joining another")
        return room

    def leave(self, name: str | None, request_id: RequestId) -> None:
        """Leave a room, which answers with `left`.

        :raises Refused: see `find`.
        """
        room, ref = self.find(name)
        del self._refs[room]
        send_leave(ref, Leave(self._member, is_answered=True, request_id=request_id))

    def leave_all(self) -> None:
        """Leave every room, without an answer; safe to call twice."""
        for ref in self._refs.values():
            send_leave(ref, Leave(self._member))
        self._refs.clear()

    def leave_forbidden(self, claims: Claims) -> None:
        """Leave the rooms that new claims do not allow; each is answered with `left`.

        :raises Disconnect: 4003 if they do not allow the initial room.
        """
        for room, ref in self.refs():
            try:
                self._services.policy.check(claims, room, Capability.JOIN)
            except Refused as refused:
                if room == self._initial_room:
                    raise Disconnect(CloseCode.FORBIDDEN, refused.message) from None
                del self._refs[room]
                send_leave(ref, Leave(self._member, is_answered=True))

    def tell_nowait(self, ref: Ref[RoomMessage], message: RoomMessage) -> Rest | None:
        """Send a room a message; if its mailbox is full, returns the rest, which waits for space.

        :raises Disconnect: if the room failed.
        """
        try:
            ref.tell_nowait(message)
        except MailboxFullError:
            return partial(self.tell, ref, message)
        except ActorStoppedError:
            raise Disconnect(CloseCode.INTERNAL_ERROR, "room failed") from None
        return None

    async def tell(self, ref: Ref[RoomMessage], message: RoomMessage) -> None:
        """Send a room a message, once its mailbox has space.

        :raises ActorStoppedError: if the room has stopped.
        """
        with self._waiting():
            await ref.tell(message)

    async def ask(self, ref: Ref[RoomMessage], make_message: Callable[[Reply[None]], RoomMessage]) -> None:
        """Wait until a room's answer is in the outbox.

        :raises EngineUnavailableError: if the room failed.
        """
        try:
            with self._waiting():
                await ref.ask(make_message)
        except ActorFailedError as error:
            raise EngineUnavailableError("the room failed", trouble=EngineTrouble.ROOM_FAILED) from error

    def _charge_room(self) -> Callable[[], None] | None:
        return self._allowance.take_room(trio.current_time())

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        self._waits += 1
        try:
            yield
        finally:
            self._waits -= 1
            self._on_waited()


def check_can(claims: Claims, capability: Capability) -> None:
    """Check that a token gives a capability; the join has checked that it permits the room.

    :raises Refused: `forbidden`.
    """
    if capability not in claims.can:
        decide_by_can(claims, capability).check()


def send_leave(ref: Ref[RoomMessage], leave: Leave) -> None:
    """Send a room the one leave of a join."""
    # A room that has stopped has no members any more.
    with suppress(ActorStoppedError):
        # One leave for each join: bounded, so it need not wait for space.
        ref.tell_always(leave)


_CLOSE_CODES = {
    ErrorCode.RATE_LIMITED: CloseCode.TOO_MANY,
    ErrorCode.ROOM_FULL: CloseCode.TOO_MANY,
    ErrorCode.UNAVAILABLE: CloseCode.TRY_AGAIN_LATER,
    ErrorCode.FAILED: CloseCode.INTERNAL_ERROR,
}
"""Close codes of a connection that may join its initial room later."""
