"""The request that a hook is sent: who asks to do what, in which room."""

import json
from collections.abc import Mapping
from enum import StrEnum

import attrs
import msgspec


class HookKind(StrEnum):
    """The step of a client about which the application decides."""

    CONNECT = "connect"
    JOIN = "join"
    PUBLISH = "publish"
    CALL = "call"


class ChatText(msgspec.Struct, frozen=True, tag_field="type", tag="chat", omit_defaults=True):
    """A `chat` of a client, cut to `limits.text_characters`."""

    text: str
    tags: dict[str, str] | None = None
    echo: bool = True


class OwnEvent(msgspec.Struct, frozen=True, tag_field="type", tag="publish", omit_defaults=True):
    """A `publish` of a client."""

    event: str
    data: msgspec.Raw
    ephemeral: bool
    tags: dict[str, str] | None = None
    echo: bool = True


Message = ChatText | OwnEvent


class MethodCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A `call` of a client. The client repeats it with the same `id` if it gets no answer."""

    method: str
    data: msgspec.Raw
    id: str | int | None = None


@attrs.frozen
class Caller:
    """One connection, as its hooks are told of it; `claims` are all claims of its newest token, as they were signed."""

    user_id: str
    connection: str
    transport: str
    """`websocket` or `event_stream`."""
    address: str | None
    claims: Mapping[str, object] = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    """Those headers of its handshake that any hook asks for, by their names in lower case."""
    cookies: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    traceparent: str | None = None
    """That of the request which has opened the connection, where hooks are traced."""


@attrs.frozen
class Ask:
    """A question to the application. `room` is None only for a connection that is made to no room."""

    kind: HookKind
    caller: Caller
    room: str | None = None
    message: Message | None = None
    call: MethodCall | None = None
    traceparent: str | None = None
    """The span of the question, where hooks are traced."""


class _Body(msgspec.Struct, frozen=True, omit_defaults=True):
    type: str
    user_id: str
    connection: str
    transport: str
    claims: msgspec.Raw
    address: str | None = None
    headers: dict[str, str] = {}
    cookies: dict[str, str] = {}
    room: str | None = None
    message: ChatText | OwnEvent | None = None
    call: MethodCall | None = None


def encode_ask(ask: Ask, *, headers: frozenset[str], cookies: frozenset[str]) -> bytes:
    """Return a question as JSON, with those headers and cookies of the handshake that are named."""
    caller = ask.caller
    body = _Body(
        ask.kind.value,
        caller.user_id,
        caller.connection,
        caller.transport,
        # In ASCII: a claim may hold half of a surrogate pair.
        msgspec.Raw(json.dumps(caller.claims).encode()),
        caller.address,
        {name: value for name, value in caller.headers.items() if name in headers},
        {name: value for name, value in caller.cookies.items() if name in cookies},
        ask.room,
        ask.message,
        ask.call,
    )
    return msgspec.json.encode(body)
