"""A session: executes the commands of one connection, and leaves its rooms at the end."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

import msgspec
import trio
from msgspec import UNSET

from actors import ActorStoppedError, Ref
from broker.auth.pending import KeysPending
from broker.errors import (
    CloseCode,
    Disconnect,
    EngineUnavailableError,
    ErrorCode,
    RefusalReason,
    Refused,
)
from broker.hooks.ask import HookKind
from broker.model import (
    Capability,
    Claims,
    Draft,
    EventHeader,
    Excluded,
    IdempotencyKey,
    PresenceBy,
)
from broker.notices import Called, Failed, Pong, Reconnect, Refreshed, RequestId
from broker.protocol import commands
from broker.protocol.content import (
    chat_content,
    chat_header,
    check_numbers,
    choosing_header,
    custom_content,
    custom_header,
)
from broker.rooms.member import Outbox
from broker.rooms.messages import Call, Publish, RoomMessage, SendHistory, SendPresence, SetState, ShowInfo
from broker.sessions.allowance import Allowance
from broker.sessions.answer_cost import cost_of, page_of
from broker.sessions.decisions import Decisions
from broker.sessions.explain import NO_ANSWER, decide_state
from broker.sessions.lanes import Lanes, StartTask
from broker.sessions.memberships import JoinOptions, Memberships, Rest, check_can
from broker.sessions.message_rate import MessageRate
from broker.sessions.services import SessionServices
from broker.sessions.wire_protocol import Decoder


class SessionOutbox(Outbox, Protocol):
    """An outbox whose owner can wait for it; rooms never do."""

    async def wait_space(self) -> None:
        """Wait until it is below its limit for events, or closed; a checkpoint only if it has to wait."""
        ...


class Session:
    """One authenticated connection; a Member of each room it is in.

    Messages are handled one after another, each to its end before the next; those of a room that wait for the application
    hold up only what comes behind them in that room. `end` may be called at any time: it never
    waits, and after it the leave of every room is in that room's mailbox, behind all that this session sent before.
    """

    def __init__(
        self,
        services: SessionServices,
        decoder: Decoder,
        claims: Claims,
        outbox: SessionOutbox,
        on_disconnect: Callable[[CloseCode, str], None],
        *,
        initial_room: str | None = None,
        on_refused: Callable[[ErrorCode | RefusalReason], None] = lambda _why: None,
        decisions: Decisions | None = None,
        start_task: StartTask | None = None,
    ) -> None:
        """`on_refused` is called for each request that is answered with an `error`.

        With `decisions`, the application is asked, in tasks that `start_task` starts.
        """
        self.claims = claims
        self._is_visible = not claims.hidden
        self._services = services
        self._decoder = decoder
        self.outbox: SessionOutbox = outbox
        """The queue of its frames."""
        self._on_disconnect = on_disconnect
        self._on_refused = on_refused
        self._initial_room = initial_room
        self._decisions = decisions
        self._lanes: Lanes | None = None
        if decisions is not None:
            assert start_task is not None, "lanes are tasks of the connection"
            self._lanes = Lanes(start_task, self._execute_in_lane)
        self.shown = services.make_shown(claims, None if decisions is None else decisions.caller.connection)
        """See Member. Its `connection` names this connection in the headers of its events, from its start to its end."""
        # Of a new token too, which is the same user's.
        self._chat_header = chat_header(claims.user_id, self.shown.connection)
        limits = services.settings.limits
        now = trio.current_time()
        self._allowance: Allowance = services.allowances.of(claims.user_id, now)
        self._rate = MessageRate(limits, self._allowance, claims.info, services.clock)
        on_waited = self._rate.credit_elapsed
        self._memberships = Memberships(
            self, services, self._allowance, on_waited, initial_room=initial_room, decisions=decisions
        )

    @property
    def user_id(self) -> str:
        """The user of this connection."""
        return self.claims.user_id

    @property
    def is_visible(self) -> bool:
        """See Member: unless its first token said `hidden`. It stays so, as rooms count their members by it."""
        return self._is_visible

    @property
    def rooms(self) -> tuple[str, ...]:
        """The rooms that it has joined."""
        return self._memberships.rooms

    @property
    def is_waiting_for_room(self) -> bool:
        """Whether this session waits for a room, so that its peer's messages may stay unread meanwhile."""
        return self._memberships.is_waiting

    def added_to(self, room: str, ref: Ref[RoomMessage]) -> None:
        """See Member. Membership follows the room's own order: a removal that came before this join is over."""
        self._memberships.add(room, ref)

    def removed_from(self, room: str) -> None:
        """See Member. If this is the initial room of the connection, the connection ends with 4004."""
        self._memberships.discard(room)
        if room == self._initial_room:
            self.disconnect(CloseCode.REMOVED, "removed from the room")

    def disconnect(self, code: CloseCode, reason: str) -> None:
        """See Member."""
        self._on_disconnect(code, reason)

    def drop_waiting(self) -> None:
        """Execute nothing more of what waits for the application; safe to call twice."""
        if self._lanes is not None:
            self._lanes.close()

    async def finish_waiting(self) -> None:
        """Wait until all that waits for the application is decided, at most for the time of one decision."""
        if self._lanes is not None and self._decisions is not None:
            with trio.move_on_after(self._decisions.hooks.longest_seconds):
                await self._lanes.wait_empty()

    def end(self) -> None:
        """Leave every room; safe to call twice."""
        self.drop_waiting()
        self._memberships.leave_all()
        self._rate.close()
        self._services.allowances.release(self._allowance, trio.current_time())

    def send_reconnect(self, after_ms: int) -> None:
        """Ask the peer to reconnect after a delay."""
        self.outbox.reply(Reconnect(after_ms))

    async def join_at_start(self, options: JoinOptions) -> None:
        """Join the room that the connection was made to, if there is one, and those of the claim `auto_join`.

        :raises Disconnect: 4003 if one is forbidden or they are too many, 4129 if rate-limited, 1013 if engine or node
            cannot serve.
        """
        if self._initial_room is not None:
            await self._memberships.join_initial_room(options)
        await self._memberships.join_auto_rooms()

    async def handle(self, text: str) -> None:
        """Execute one message; errors are answered. Blocks while a room's mailbox is full.

        :raises Disconnect: if the connection must end.
        """
        rest = self.handle_nowait(text)
        if rest is not None:
            await rest()

    def handle_nowait(self, text: str) -> Rest | None:
        """Rate-check, decode and, if no wait is needed, execute a message.

        Returns the part that must be awaited before the next message; None if it was executed or refused. Errors are
        answered, by that part too.

        :raises Disconnect: if the connection must end.
        """
        try:
            self._rate.check(text)
            command = self._decoder.decode(text)
        except commands.BadCommandError as bad:
            self._refuse(bad.refused, bad.request_id)
            return None
        except Refused as refused:
            self._refuse(refused, self._decoder.request_id(text))
            return None
        try:
            if self._lanes is not None and (room := self._lane_of(command)) is not None:
                self._lanes.put(room, command)
                return None
            rest = self._execute_nowait(command)
        except Refused as refused:
            self._refuse(refused, command.id)
            return None
        return None if rest is None else partial(self._execute_rest, rest, command.id)

    def _lane_of(self, command: commands.AnyCommand) -> str | None:
        """Return the room behind whose waiting commands this one belongs; None if it is executed at once."""
        assert self._lanes is not None
        assert self._decisions is not None
        if isinstance(command, commands.Ping | commands.Refresh):
            return None
        room = self._initial_room if command.room is None else command.room
        if room is None or room in self._lanes:
            return room
        match command:
            case commands.Chat() | commands.Publish():
                is_asked_about = self._decisions.are_asked_about(HookKind.PUBLISH, room)
            case commands.Join():
                is_asked_about = self._decisions.are_asked_about(HookKind.JOIN, room)
            case commands.Call():
                is_asked_about = self._decisions.are_asked_about(HookKind.CALL, room)
            case _:
                is_asked_about = False
        return room if is_asked_about else None

    async def _execute_in_lane(self, room: str, command: commands.AnyCommand) -> None:
        """Execute a command of a room, once the application has decided; its errors are answered."""
        await self._execute_rest(partial(self._execute_decided, room, command), command.id)

    async def _execute_decided(self, room: str, command: commands.AnyCommand) -> None:
        assert self._decisions is not None
        if isinstance(command, commands.Call) and self._decisions.are_asked_about(HookKind.CALL, room):
            await self._call(self._decisions, room, command)
            return
        if isinstance(command, commands.Chat | commands.Publish) and self._decisions.are_asked_about(
            HookKind.PUBLISH, room
        ):
            # The application is asked about what may be published otherwise.
            self._check_publish(command)
            limit = self._services.settings.limits.text_characters
            command, traceparent = await self._decisions.publish(room, command, text_characters=limit)
            rest = self._publish_nowait(command, traceparent)
        else:
            rest = self._execute_nowait(command)
        if rest is not None:
            await rest()

    async def _execute_rest(self, rest: Rest, request_id: RequestId) -> None:
        """Execute the rest of a command, and answer its errors."""
        try:
            await rest()
        except Refused as refused:
            self._refuse(refused, request_id)
        except EngineUnavailableError as error:
            self._refuse(error.as_refused(), request_id)
        except ActorStoppedError:
            raise Disconnect(CloseCode.INTERNAL_ERROR, "room failed") from None

    def _refuse(self, refused: Refused, request_id: RequestId) -> None:
        """Answer one request with an error; the connection goes on."""
        self._on_refused(refused.why or refused.code)
        self.outbox.reply(Failed(refused, request_id))

    def _execute_nowait(self, command: commands.AnyCommand) -> Rest | None:  # noqa: PLR0911  # one case for each command
        """Execute a command as far as that needs no wait; returns the rest."""
        match command:
            # The most frequent ones first: each case that fails costs two per cent of a ping.
            case commands.Chat():
                return self._publish_nowait(command)
            case commands.Ping():
                self.outbox.reply(Pong(command.id))
            case commands.Publish():
                return self._publish_nowait(command)
            case commands.Leave():
                self._memberships.leave(command.room, command.id)
            case commands.Refresh():
                return self._refresh(command)
            case commands.SetState():
                return self._set_state_nowait(command)
            case commands.Join() | commands.Presence() | commands.History():
                if not isinstance(command, commands.Join) or command.last or command.presence:
                    self._charge_answer(command)
                return partial(self._execute, command)
            case commands.Call():
                return self._call_room_nowait(command)
        return None

    def _charge_answer(self, command: commands.Join | commands.Presence | commands.History) -> None:
        """Charge what the answer may hold."""
        settings = self._services.settings
        cost = cost_of(
            command,
            page_messages=settings.history.page_messages,
            events_per_message=settings.limits.history_events_per_message,
        )
        if cost > 1:
            self._rate.charge_answer(cost)

    async def _execute(self, command: commands.Join | commands.Presence | commands.History) -> None:
        """Execute a command that has to wait."""
        # The answers can be large. The client has to read them before it gets more: each is in the outbox before the
        # next is requested.
        await self.outbox.wait_space()
        match command:
            case commands.Join():
                since = commands.position_of(command.since)
                by = None if command.presence is None else PresenceBy(command.presence)
                await self._memberships.join(
                    command.room,
                    JoinOptions(since, by, command.last, commands.filter_of(command.tags)),
                    command.id,
                )
            case commands.Presence():
                _, ref = self._memberships.find(command.room)
                check_can(self.claims, Capability.PRESENCE)
                by = PresenceBy(command.by)
                await self._memberships.ask(ref, lambda reply: SendPresence(self, command.id, reply, by))
            case commands.History():
                _, ref = self._memberships.find(command.room)
                check_can(self.claims, Capability.HISTORY)
                limit = page_of(command.limit, self._services.settings.history.page_messages)
                since = commands.position_of(command.since)
                await self._memberships.ask(
                    ref, partial(SendHistory, self, since, limit, command.reverse, command.id)
                )

    def _publish_nowait(
        self, command: commands.Chat | commands.Publish, traceparent: str | None = None
    ) -> Rest | None:
        """Publish; if the room's mailbox is full, returns the rest, which waits for space."""
        ref, publish = self._make_publish(command)
        if traceparent is not None:
            header = msgspec.structs.replace(publish.draft.header, traceparent=traceparent)
            draft = msgspec.structs.replace(publish.draft, header=header)
            publish = msgspec.structs.replace(publish, draft=draft)
        return self._memberships.tell_nowait(ref, publish)

    def _set_state_nowait(self, command: commands.SetState) -> Rest | None:
        """Set the state in a room; if the room's mailbox is full, returns the rest, which waits for space."""
        room, ref = self._memberships.find(command.room)
        decide_state(is_visible=self.is_visible, shows_data=self._services.shows_data(room)).check()
        state, limit = bytes(command.state), self._services.settings.limits.state_bytes
        if len(state) > limit:
            raise Refused(
                ErrorCode.INVALID_MESSAGE, f"state: at most {limit} bytes of JSON (limits.state_bytes)"
            )
        check_numbers("state", command.state)
        return self._memberships.tell_nowait(
            ref, SetState(self, None if state == b"null" else state, command.id)
        )

    async def _call(self, decisions: Decisions, room: str, command: commands.Call) -> None:
        """Have the application answer a call. Its answer can be large: see `_execute`."""
        self._check_call(command)
        await self.outbox.wait_space()
        data = await decisions.call(room, command)
        # Those of other rooms may have come meanwhile.
        await self.outbox.wait_space()
        self.outbox.reply(Called(data, command.id))

    def _call_room_nowait(self, command: commands.Call) -> Rest | None:
        """Have the room's own code answer a call; a room without code refuses it."""
        self._check_call(command)
        room, ref = self._memberships.find(command.room)
        if not self._services.rooms.has_code(room):
            NO_ANSWER.check()
        data = None if command.data is UNSET else bytes(command.data)
        call = Call(command.method, data, self._key(command.id), self, command.id)
        return self._memberships.tell_nowait(ref, call)

    def _check_call(self, command: commands.Call) -> None:
        self._memberships.find(command.room)
        check_can(self.claims, Capability.CALL)
        if command.data is not UNSET:
            check_numbers("data", command.data)

    def _check_publish(self, command: commands.Chat | commands.Publish) -> None:
        self._memberships.find(command.room)
        if isinstance(command, commands.Chat):
            check_can(self.claims, Capability.CHAT)
        else:
            check_can(self.claims, Capability.PUBLISH)
            check_numbers("data", command.data)

    def _make_publish(self, command: commands.Chat | commands.Publish) -> tuple[Ref[RoomMessage], Publish]:
        """Return the room and its message."""
        room, ref = self._memberships.find(command.room)
        info = self.shown.info
        if info is not None and not self._services.shows_data(room):
            info = None
        if isinstance(command, commands.Chat):
            check_can(self.claims, Capability.CHAT)
            limit = self._services.settings.limits.text_characters
            content = chat_content(self.user_id, command.text, limit, info, command.tags)
            draft = Draft(content, False, self._key(command.id), self._choose(self._chat_header, command))
        else:
            check_can(self.claims, Capability.PUBLISH)
            content = custom_content(self.user_id, command.event, command.data, info, command.tags)
            header = custom_header(self.user_id, command.event, self.shown.connection)
            header = self._choose(header, command)
            draft = Draft(content, command.ephemeral, self._key(command.id), header)
        return ref, Publish(draft, self, command.id)

    def _choose(self, header: EventHeader, command: commands.Chat | commands.Publish) -> EventHeader:
        """Return the header with what the command says about its recipients."""
        if command.tags is None and command.echo:
            return header
        excluded = None if command.echo else Excluded(self.shown.connection)
        return choosing_header(header, command.tags, excluded)

    def _key(self, request_id: RequestId) -> IdempotencyKey | None:
        if request_id is None:
            return None
        self._allowance.take_id(trio.current_time())
        # 1 and "1" are two ids.
        kind = "i" if isinstance(request_id, int) else "s"
        return IdempotencyKey(f"user {self.user_id}", f"{kind}{request_id}")

    def _refresh(self, command: commands.Refresh) -> Rest | None:
        """Replace the token; returns the rest, if the rooms are to show another info."""
        try:
            claims = self._services.verifier.verify(command.token)
        except KeysPending as pending:
            # The present token holds meanwhile.
            raise Refused(ErrorCode.UNAVAILABLE, pending.reason, KEYS_RETRY_MS, why=pending.why) from None
        if claims.user_id != self.user_id:
            raise Disconnect(
                CloseCode.UNAUTHORIZED, "the new token is another user's", why=RefusalReason.TOKEN_OTHER_USER
            )
        if self._decisions is not None:
            claims = self._decisions.apply(claims)
        self.claims = claims
        seconds_left = self._services.verifier.seconds_left(claims)
        self.outbox.reply(Refreshed(claims.expires_at, seconds_left, command.id))
        self._memberships.leave_forbidden(claims)
        if claims.info == self.shown.info:
            return None
        self.shown = msgspec.structs.replace(self.shown, info=claims.info)
        self._rate.set_info(claims.info)
        return self._show_info

    async def _show_info(self) -> None:
        """Have all rooms show the present info."""
        for _, ref in self._memberships.refs():
            with suppress(ActorStoppedError):
                await self._memberships.tell(ref, ShowInfo(self))


KEYS_RETRY_MS = 1000
"""When a client may offer its new token again whose key was being fetched."""
