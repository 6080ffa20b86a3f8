"""A room as server-sent events: a member that only listens."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from random import Random
from typing import Annotated
from uuid import uuid4

import attrs
import msgspec
import trio
from msgspec import UNSET, Meta, UnsetType
from quart import Quart, Response
from quart.wrappers.response import ResponseBody

from actors import ActorError, ActorStoppedError, Ref, Reply
from broker.auth.api_keys import READ
from broker.auth.pending import KeysPending
from broker.auth.permissions import check_last, recovery_start
from broker.errors import (
    CloseCode,
    Disconnect,
    EngineUnavailableError,
    ErrorCode,
    RefusalReason,
    Refused,
)
from broker.http.api.access import Access
from broker.http.api.operations import operation
from broker.http.api.sse import EventOutbox, close_event, event_stream_protocol, parse_event_id
from broker.http.bodies import check_parameters, read_query
from broker.http.deadlines import answer_within
from broker.http.exchange import PacedRequest, this_request
from broker.http.refusals import address_of, proxied_client
from broker.http.services import HttpServices
from broker.model import Capability, Claims, Position, PresenceBy, Shown, TagFilter, check_room_name
from broker.notices import Reconnect
from broker.protocol.tags import parse_filter
from broker.refusals import reason_of
from broker.rooms.directory import Rooms
from broker.rooms.messages import Join, Leave, RoomMessage
from broker.rooms.tally import Tally
from broker.sessions.allowance import Allowance
from broker.sessions.backlog import Backlog
from broker.sessions.connections import ConnectionFacts
from broker.sessions.recent_closes import Close
from broker.sessions.wire_protocol import WireProtocol

HEARTBEAT_SECONDS = 15.0
"""Silence after which a comment is sent; the HTML standard (9.2.7) suggests about 15 seconds."""

EVENTS_ROUTE = "/api/rooms/<room>/events"

EVENT_STREAM_TYPE = "text/event-stream"

RETRY_MS = (1000, 3000)
"""Bounds of a browser's delay before it reconnects, so that not all reconnect at once."""


class EventsQuery(msgspec.Struct, frozen=True):
    """Query parameters, for clients that cannot set headers."""

    last_event_id: str | UnsetType = UNSET
    token: str | UnsetType = UNSET
    presence: Annotated[
        PresenceBy | UnsetType,
        Meta(description="`joined` lists the members: each user, each connection, or counts"),
    ] = UNSET
    last: Annotated[
        Annotated[int, Meta(ge=1)] | UnsetType,
        Meta(description="begin with so many of the newest messages; not with `last_event_id`"),
    ] = UNSET
    tags: Annotated[
        str | UnsetType,
        Meta(description='only messages that match, as a JSON object: {"kind":["goal","card"]}'),
    ] = UNSET


class EventsHeaders(msgspec.Struct, frozen=True, rename={"last_event_id": "Last-Event-ID"}):
    """The header that a browser sends when it reconnects."""

    last_event_id: str | UnsetType = UNSET


class StreamEvent(msgspec.Struct, frozen=True):
    """One event of the stream, by its fields (HTML Living Standard, section 9.2)."""

    data: Annotated[
        str,
        Meta(
            description="The same message as on a WebSocket; of the event `close`, `code` and `reason`.",
            extra_json_schema={"contentMediaType": "application/json", "contentSchema": {"type": "object"}},
        ),
    ]
    event: Annotated[str, Meta(description="`close` for the last event, else `message`.")] = "message"
    id: Annotated[
        str | UnsetType, Meta(description="The position, for `Last-Event-ID`: epoch, colon, offset.")
    ] = UNSET
    retry: Annotated[
        int | UnsetType, Meta(description="Milliseconds to wait before the next connection.")
    ] = UNSET


@attrs.frozen
class EventRoutes:
    """The route for event streams."""

    services: HttpServices
    access: Access
    heartbeat_seconds: float
    random: Random
    protocol: WireProtocol = attrs.field(factory=event_stream_protocol)

    def add_to(self, app: Quart) -> None:
        """Add the route, which the gate leaves open, because a client token is enough here."""
        app.add_url_rule(EVENTS_ROUTE, view_func=self.listen, methods=["GET"])

    @operation(
        query=EventsQuery,
        headers=EventsHeaders,
        response=StreamEvent,
        response_media=EVENT_STREAM_TYPE,
        security=("apiKey", "clientToken"),
        need=READ,
    )
    async def listen(self, room: str) -> Response:
        """Listen to a room as server-sent events.

        The first event is `joined`. With a Last-Event-ID, the messages missed since then follow, if `joined` says
        `recovered`; without one, and with `last`, the newest messages do. A client token makes its user a member of the
        room; the API key listens without being seen. The stream ends with an event of type `close` (data `code` and `reason`, as a WebSocket's close), or with
        `reconnect` when the server is stopping.
        """
        check_room_name(room)
        try:
            claims = await self.access.authenticate_listener()
        except KeysPending as pending:
            if not _asks_for_event_stream():
                raise
            return self._ended_stream(pending)
        if claims is not None:
            self.services.policy.check(claims, room, Capability.JOIN)
        check_parameters(EventsQuery)
        query = read_query(EventsQuery)
        by = query.presence
        if query.last is not UNSET:
            check_last(claims, query.last, parse_event_id(query.last_event_id or None))
        if by is not UNSET and claims is not None and Capability.PRESENCE not in claims.can:
            raise Refused(ErrorCode.FORBIDDEN, f"the token does not allow {Capability.PRESENCE}")
        wanted = None if query.tags is UNSET else parse_filter(query.tags)
        if this_request().method == "HEAD":
            return _response(b"")
        try:
            stream = await self._open_stream(room, claims, None if by is UNSET else by, wanted)
        except (Refused, EngineUnavailableError, ActorError, Disconnect) as error:
            ending = _passing_refusal(error)
            if ending is None or not _asks_for_event_stream():
                raise
            return self._ended_stream(ending)
        retry = b"retry:%d\n\n" % self.random.randint(*RETRY_MS)
        return _response(EventBody(stream, retry, self.heartbeat_seconds))

    def _ended_stream(self, ending: Disconnect) -> Response:
        """Return a stream with only a close event, for a temporary refusal.

        A browser's EventSource reconnects after a stream has ended; any status but 200 ends it for good
        (the HTML standard, section 9.2.3).
        """
        this_request().why = reason_of(ending) or ErrorCode.UNAVAILABLE
        return _response(
            b"retry:%d\n\n" % self.random.randint(*RETRY_MS) + close_event(ending, self.protocol)
        )

    async def _open_stream(
        self, room: str, claims: Claims | None, by: PresenceBy | None, wanted: TagFilter | None
    ) -> "EventStream":
        request = this_request()
        request.end_with_client()
        self._take_place(request)
        connection = self.services.connection_ids.make()
        if claims is not None:
            claims = await self.access.ask_hooks(claims, room, connection)
        if self.services.is_draining():
            raise Refused(ErrorCode.UNAVAILABLE, "the server is stopping", 1000)
        query = read_query(EventsQuery)
        event_id = request.headers.get("Last-Event-ID") or query.last_event_id or None
        # A browser that reconnects asks for the same address again, with the header.
        last = None if event_id is not None or query.last is UNSET else query.last
        settings = self.services.settings
        stream = EventStream(
            self.protocol,
            claims,
            settings.websocket.outbox_bytes,
            settings.auth.leeway_seconds,
            on_end=partial(self._note_end, address_of(request.scope), claims),
            connection=connection,
            since_ms=int(self.services.wall_clock() * 1000),
            tally=self.services.rooms.tally,
            backlog=self.services.connections.backlog,
        )
        if not self.services.connections.add(stream):
            raise Disconnect(
                CloseCode.TOO_MANY, "too many connections of this user", why=RefusalReason.USER_FULL
            )
        request.exits.callback(self.services.connections.discard, stream)
        request.exits.callback(stream.abandon)
        with answer_within(self.services.settings.http.request_seconds):
            since = parse_event_id(event_id)
            since = since if claims is None else recovery_start(claims, since)
            allowance = None if claims is None else self._enter(claims)
            await stream.join(self.services.rooms, room, since, allowance, by, last=last, wanted=wanted)
        return stream

    def _take_place(self, request: PacedRequest) -> None:
        """Count the stream as a connection of its client, if it comes through a proxy."""
        client, places = proxied_client(request.scope), self.services.client_places
        if client is None or places is None:
            return
        if not places.take_place(client):
            raise Disconnect(
                CloseCode.TOO_MANY, "too many connections of this address", why=RefusalReason.ADDRESS_FULL
            )
        request.exits.callback(places.give_back, client)

    def _note_end(self, address: str | None, claims: Claims | None, ending: Disconnect) -> None:
        if claims is not None:
            close = Close(self.services.wall_clock(), int(ending.code), ending.reason, is_by_client=False)
            self.services.connections.recent_closes.note(claims.user_id, close)
        self.services.refusals.count_close(ending.code)
        self.services.refusals.note_ending(ending, address)

    def _enter(self, claims: Claims) -> Allowance:
        """Return the user's allowance, which outlives this request."""
        allowances = self.services.allowances
        allowance = allowances.of(claims.user_id, trio.current_time())
        this_request().exits.callback(lambda: allowances.release(allowance, trio.current_time()))
        return allowance


def _asks_for_event_stream() -> bool:
    """Whether the request names the type, as a browser's EventSource does; `*/*` does not."""
    accepted = this_request().accept_mimetypes
    return any(value.lower() == EVENT_STREAM_TYPE and quality > 0 for value, quality in accepted)


def _passing_refusal(error: Exception) -> Disconnect | None:
    """Return the close that stands for a temporary refusal, or None for a lasting one."""
    match error:
        case Disconnect(code=CloseCode.TOO_MANY | CloseCode.TRY_AGAIN_LATER):
            return error
        case Refused(code=ErrorCode.ROOM_FULL):
            return Disconnect(CloseCode.TOO_MANY, error.message, why=error.why)
        case Refused(retry_after_ms=None) | Disconnect():
            return None
        case Refused(code=ErrorCode.RATE_LIMITED | ErrorCode.TOO_MANY_ROOMS):
            return Disconnect(CloseCode.TOO_MANY, error.message)
        case ActorError():
            return Disconnect(CloseCode.INTERNAL_ERROR, "room failed")
        case _:
            return Disconnect(CloseCode.TRY_AGAIN_LATER, "unavailable")


def _response(body: ResponseBody | bytes) -> Response:
    # Neither nginx nor a middleware that compresses may collect events until a buffer is full (RFC 9111 5.2.2.6).
    headers = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
    response = Response(body, headers=headers, content_type=EVENT_STREAM_TYPE)
    response.timeout = None
    return response


class EventStream:
    """One event stream: a Member of its room, and a Connection like any WebSocket."""

    def __init__(
        self,
        protocol: WireProtocol,
        claims: Claims | None,
        limit_bytes: int,
        leeway_seconds: float,
        *,
        on_end: Callable[[Disconnect], None] = lambda _ending: None,
        connection: str = "",
        since_ms: int = 0,
        tally: Tally | None = None,
        backlog: Backlog | None = None,
    ) -> None:
        """`on_end` is called once, if the server ends the stream; `connection` and `since_ms` are those of Shown.

        `tally` and `backlog` are the node's.
        """
        self._protocol = protocol
        self._on_end = on_end
        self._is_ended = False
        self._claims = claims
        self._leeway_seconds = leeway_seconds
        # No user's id holds a slash, so none can be mistaken for a bearer of the API key.
        self._user_id = f"api/{uuid4().hex}" if claims is None else claims.user_id
        self.shown = Shown(self._user_id, connection, since_ms, None if claims is None else claims.info)
        """See Member."""
        self._outbox = EventOutbox(
            protocol.codec,
            limit_bytes=limit_bytes,
            disconnect=self.disconnect,
            tally=tally or Tally(),
            backlog=backlog or Backlog(),
        )
        self._ref: Ref[RoomMessage] | None = None
        self._room: str | None = None

    @property
    def user_id(self) -> str:
        """The user of the connection."""
        return self._user_id

    @property
    def rooms(self) -> Sequence[str]:
        """See Connection."""
        return () if self._room is None else (self._room,)

    @property
    def claims(self) -> Claims | None:
        """See Connection."""
        return self._claims

    @property
    def queued_bytes(self) -> int:
        """See Connection."""
        return self._outbox.queued_bytes

    def facts(self) -> ConnectionFacts:
        """See Connection."""
        written_at = self._outbox.written_at
        return ConnectionFacts(
            self.shown.connection,
            "event_stream",
            self.shown.since_ms,
            self.is_visible,
            None if written_at is None else trio.current_time() - written_at,
        )

    @property
    def is_visible(self) -> bool:
        """See Member: a bearer of the API key only listens, and a token may say `hidden`."""
        return self._claims is not None and not self._claims.hidden

    @property
    def outbox(self) -> EventOutbox:
        """The outbox of this member."""
        return self._outbox

    async def join(
        self,
        rooms: Rooms,
        room: str,
        since: Position | None,
        allowance: Allowance | None = None,
        by: PresenceBy | None = None,
        *,
        last: int | None = None,
        wanted: TagFilter | None = None,
    ) -> None:
        """Join the room. Call `end` after it, also if it fails or is cancelled.

        :raises Refused: if the room is full, or would have to start, and `allowance` or the node forbids that at present.
        :raises EngineUnavailableError: if the engine cannot serve.
        :raises ActorError: if the room failed.
        """
        reply: Reply[None] = Reply()
        began = trio.current_time()
        # The Ref is kept as soon as the join is in the mailbox: from then on `end` sends a leave behind it.
        pay = None if allowance is None else lambda: allowance.take_room(trio.current_time())
        self._ref = await rooms.tell(room, Join(self, since, None, reply, by, last, wanted), on_start=pay)
        await self._ref.wait_reply(reply)
        rooms.tally.joins.note(trio.current_time() - began)

    def end(self) -> None:
        """Leave the room; safe to call at any time, and again."""
        ref, self._ref = self._ref, None
        if ref is not None:
            # A room that is gone has taken this membership with it.
            with suppress(ActorStoppedError):
                # One leave for each join: bounded, so it need not wait for space.
                ref.tell_always(Leave(self))

    def abandon(self) -> None:
        """Leave the room, and drop what is queued and what comes until it has noticed: nobody reads any more."""
        self.end()
        self._outbox.abandon()

    def check(self, now: float, wall_now: float) -> None:  # noqa: ARG002  # nobody answers a ping here
        """See Connection: end when the token has expired."""
        if self._claims is not None and self._claims.has_expired(wall_now, self._leeway_seconds):
            self.disconnect(CloseCode.TOKEN_EXPIRED, "token expired")

    def send_reconnect(self, after_ms: int) -> None:
        """See Connection. The stream ends at once, and the client reconnects after the delay."""
        self._outbox.reply(Reconnect(after_ms))
        self._close(Disconnect(CloseCode.SERVICE_RESTART, "service restart"), last=b"retry:%d\n\n" % after_ms)

    def added_to(self, room: str, ref: Ref[RoomMessage]) -> None:  # noqa: ARG002  # `join` has kept it
        """See Member. A stream that ends before this has to leave too."""
        self._room = room

    def removed_from(self, room: str) -> None:  # noqa: ARG002  # it is only in one
        """See Member: the stream has no other purpose."""
        self.disconnect(CloseCode.REMOVED, "removed from the room")

    def disconnect(self, code: CloseCode, reason: str, *, why: RefusalReason | None = None) -> None:
        """See Member: send a close event and end. The queue of a slow reader is dropped."""
        ending = Disconnect(code, reason, why=why)
        self._close(ending, last=close_event(ending, self._protocol))

    def _close(self, ending: Disconnect, *, last: bytes) -> None:
        if not self._is_ended:
            self._is_ended = True
            self._on_end(ending)
        self._outbox.close(last, drop=ending.code == CloseCode.TOO_SLOW)
        # At once, not after the last write: a peer that does not read must not stay a member.
        self.end()


class EventBody(ResponseBody):
    """The stream as the body of a response. An object, not a generator, which would need closing."""

    def __init__(self, stream: EventStream, first: bytes, heartbeat_seconds: float) -> None:
        self._stream = stream
        self._first = first
        self._heartbeat_seconds = heartbeat_seconds

    async def __aenter__(self) -> "EventBody":
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Do nothing: the request's exits end the stream."""

    def __aiter__(self) -> "EventBody":
        """Iterate, once."""
        return self

    async def __anext__(self) -> bytes:
        """Wait for more events."""
        if self._first:
            first, self._first = self._first, b""
            return first
        chunk = await self._stream.outbox.next_chunk(self._heartbeat_seconds)
        if not chunk:
            raise StopAsyncIteration
        return chunk
