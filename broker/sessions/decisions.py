"""The decisions of the application about one connection: what its hooks are asked, and what their answers change."""

from collections.abc import Mapping, Sequence

import attrs
import msgspec
import trio
from msgspec import UNSET

from broker.auth.cookies import cookie_values
from broker.errors import CloseCode, Disconnect, ErrorCode, Refused
from broker.hooks.answers import Allowed
from broker.hooks.ask import Ask, Caller, ChatText, HookKind, MethodCall, OwnEvent
from broker.hooks.hooks import Hooks
from broker.model import Claims
from broker.protocol import commands

Headers = Sequence[tuple[bytes, bytes]]

MAX_CLOSE_REASON_BYTES = 123
"""RFC 6455 section 5.5.1, without the code."""

JOINS_AT_ONCE = 8
"""Rooms of `auto_join` that are asked about at once: few enough that one user takes up no hook."""

_CLOSE_CODES: Mapping[ErrorCode, CloseCode] = {
    ErrorCode.FORBIDDEN: CloseCode.FORBIDDEN,
    ErrorCode.RATE_LIMITED: CloseCode.TOO_MANY,
    ErrorCode.UNAVAILABLE: CloseCode.TRY_AGAIN_LATER,
}


def close_of(refused: Refused) -> Disconnect:
    """Return the end of a connection whose start the application has refused."""
    reason = refused.message.encode()[:MAX_CLOSE_REASON_BYTES].decode(errors="ignore")
    return Disconnect(_CLOSE_CODES[refused.code], reason, why=refused.why)


@attrs.define
class Decisions:
    """Asks the hooks about one connection. Each method returns within the time limits of the hooks."""

    hooks: Hooks
    caller: Caller
    _at_connect: Allowed = attrs.Factory(Allowed)
    """The answer with which the connection began; it holds to its end."""

    @classmethod
    def of(
        cls,
        hooks: Hooks,
        claims: Claims,
        connection: str,
        *,
        transport: str,
        address: str | None,
        headers: Headers,
    ) -> "Decisions":
        """Return the decisions about a new connection; `headers` are those of its handshake."""
        caller = Caller(
            claims.user_id,
            connection,
            transport,
            address,
            claims.payload or {},
            _chosen_headers(headers, hooks.header_names),
            _chosen_cookies(headers, hooks.cookie_names),
            _chosen_headers(headers, _TRACEPARENT).get("traceparent") if hooks.is_traced else None,
        )
        return cls(hooks, caller)

    async def connect(self, room: str | None) -> None:
        """Ask whether the connection may begin.

        :raises Disconnect: if not, with the application's reason; 1013 if it is away and that refuses.
        """
        try:
            self._at_connect = await self.hooks.decide(Ask(HookKind.CONNECT, self.caller, room))
        except Refused as refused:
            raise close_of(refused) from None
        await trio.lowlevel.checkpoint_if_cancelled()

    def apply(self, claims: Claims) -> Claims:
        """Return the claims of a token, of the first or a later one, as the answer to `connect` changes them.

        It never lengthens the time of a token, nor lets it into rooms that its own claims do not allow.
        """
        if claims.payload is not None:
            self.caller = attrs.evolve(self.caller, claims=claims.payload)
        given = self._at_connect
        expiries = [end for end in (claims.expires_at, given.expires_at) if end is not None]
        return attrs.evolve(
            claims,
            info=claims.info if given.info is None else given.info,
            expires_at=min(expiries, default=None),
            auto_join=claims.auto_join + given.auto_join,
        )

    def are_asked_about(self, kind: HookKind, room: str) -> bool:
        """Whether a hook decides about such a step in a room."""
        return self.hooks.find(kind, room) is not None

    async def join(self, room: str) -> None:
        """Ask whether the connection may join a room, or again if it is in.

        :raises Refused: if not, with the application's reason.
        """
        if self.are_asked_about(HookKind.JOIN, room):
            await self.hooks.decide(Ask(HookKind.JOIN, self.caller, room))
            # Nothing is done any more for a connection that has ended meanwhile.
            await trio.lowlevel.checkpoint_if_cancelled()

    async def join_all(self, rooms: Sequence[str]) -> None:
        """Ask about several rooms, some at a time, so that one slow answer holds up no other question.

        :raises Refused: if one is refused.
        """
        refusals: list[Refused] = []
        waiting = iter(rooms)

        async def ask() -> None:
            for room in waiting:
                if refusals:
                    return
                try:
                    await self.join(room)
                except Refused as refused:
                    refusals.append(refused)

        async with trio.open_nursery() as nursery:
            for _ in rooms[:JOINS_AT_ONCE]:
                nursery.start_soon(ask)
        for refused in refusals:
            raise refused

    async def publish(
        self, room: str, command: commands.Chat | commands.Publish, *, text_characters: int
    ) -> tuple[commands.Chat | commands.Publish, str | None]:
        """Ask whether a message may be published; returns it as the application wants it, and the span of the question.

        :raises Refused: if not, with the application's reason.
        """
        message: ChatText | OwnEvent
        if isinstance(command, commands.Chat):
            message = ChatText(command.text[:text_characters], command.tags, command.echo)
        else:
            message = OwnEvent(command.event, command.data, command.ephemeral, command.tags, command.echo)
        allowed = await self.hooks.decide(Ask(HookKind.PUBLISH, self.caller, room, message))
        await trio.lowlevel.checkpoint_if_cancelled()
        return self._as_wanted(room, message, command, allowed), allowed.traceparent

    @staticmethod
    def _as_wanted(
        room: str,
        message: ChatText | OwnEvent,
        command: commands.Chat | commands.Publish,
        allowed: Allowed,
    ) -> commands.Chat | commands.Publish:
        """Return the command with what the answer changes of its `message`."""
        match allowed.message, command:
            case ChatText(text, tags), commands.Chat():
                if isinstance(message, ChatText) and text == message.text:
                    # The whole text, so that the event says that it was cut.
                    text = command.text
                return msgspec.structs.replace(command, text=text, room=room, tags=tags)
            case OwnEvent(event, data, ephemeral, tags), commands.Publish():
                return msgspec.structs.replace(
                    command, event=event, data=data, room=room, ephemeral=ephemeral, tags=tags
                )
            case _:
                # Not changed: an answer keeps the kind of a message.
                return command

    async def call(self, room: str, command: commands.Call) -> bytes:
        """Have the application answer a call; returns its answer as JSON.

        :raises Refused: if it refuses, with its reason; `unavailable` if it is away.
        """
        data = _NULL if command.data is UNSET else command.data
        call = MethodCall(command.method, data, command.id)
        allowed = await self.hooks.decide(Ask(HookKind.CALL, self.caller, room, call=call))
        await trio.lowlevel.checkpoint_if_cancelled()
        return allowed.data


_TRACEPARENT = frozenset({"traceparent"})

_NULL = msgspec.Raw(b"null")


def _chosen_headers(headers: Headers, names: frozenset[str]) -> dict[str, str]:
    """Return the named headers; several of one name are joined as RFC 9110 section 5.3 has it."""
    chosen: dict[str, str] = {}
    if names:
        for key, value in headers:
            name = key.decode("latin-1").lower()
            if name in names:
                text = value.decode("latin-1").strip(" \t")
                chosen[name] = f"{chosen[name]}, {text}" if name in chosen else text
    return chosen


def _chosen_cookies(headers: Headers, names: frozenset[str]) -> dict[str, str]:
    """Return the named cookies; the first of one name counts."""
    found = ((name, next(iter(cookie_values(headers, name)), None)) for name in sorted(names))
    return {name: value for name, value in found if value is not None}
