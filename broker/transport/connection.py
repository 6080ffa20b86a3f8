"""One WebSocket connection, from its request to its end."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from urllib.parse import parse_qsl, unquote

import attrs
import msgspec
import trio

from broker.auth.bearer import find_token
from broker.auth.cookies import find_cookie_token
from broker.auth.tokens import verify_with_patience
from broker.errors import CloseCode, Disconnect, ErrorCode, RefusalReason, Refused
from broker.hooks.hooks import Hooks
from broker.log import Log
from broker.model import Claims, Position, PresenceBy, TagFilter, parse_offset
from broker.protocol.tags import parse_filter
from broker.refusals import Refusals
from broker.sessions.connections import ConnectionFacts, Connections
from broker.sessions.decisions import Decisions
from broker.sessions.liveness import Liveness, LivenessAction
from broker.sessions.memberships import JoinOptions, Rest
from broker.sessions.rate import TokenBucket
from broker.sessions.recent_closes import Close
from broker.sessions.services import SessionServices
from broker.sessions.session import Session
from broker.sessions.wire_protocol import WireProtocol, select_protocol
from broker.transport.byte_stream import ByteStream
from broker.transport.closed import Closed
from broker.transport.deflate.codec import Deflate
from broker.transport.deflate.negotiation import agree
from broker.transport.flusher import Flusher
from broker.transport.frames import PING
from broker.transport.handshake import answer_handshake, offered_subprotocols
from broker.transport.head import Head
from broker.transport.last_sent import seconds_since_sent
from broker.transport.outbox import Outbox
from broker.transport.pump import Pump
from broker.transport.tls.port_tls import PortTls
from broker.transport.websocket import WebSocket

FRAMES_PER_MESSAGE = 4
"""Frames that the limits allow for each message: fragments, pings, pongs."""

INTERNAL_ERROR = Disconnect(CloseCode.INTERNAL_ERROR, "internal error")

_UNREADABLE = {
    int(code): Disconnect(code, "unreadable frame")
    for code in (CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_UTF8, CloseCode.MESSAGE_TOO_BIG)
}
"""Codes with which a WebSocket is closed over an invalid frame."""


@attrs.frozen
class ConnectionServices:
    """The parts that all connections share."""

    sessions: SessionServices
    connections: Connections
    protocols: Sequence[WireProtocol]
    """Protocols over WebSocket; a client that offers none of them speaks the first."""
    log: Log
    is_draining: Callable[[], bool]
    flusher: Flusher
    """Writes to the sockets of all connections."""
    pump: Pump | None = None
    """Reads all sockets; without it each connection's task reads."""
    refusals: Refusals = attrs.field(default=attrs.Factory(lambda self: Refusals(self.log), takes_self=True))
    tls: PortTls | None = None
    """TLS of the port; None if it speaks in clear text."""
    deflate: Deflate = attrs.field(factory=Deflate)
    """Compression for the connections that agree on it, where the settings have it."""


class Destination(msgspec.Struct, frozen=True):
    """Target of a request: a room to join at once, with the last position that the client has seen of it."""

    initial_room: str | None
    since: Position | None
    presence: PresenceBy | None = None
    """The form in which `joined` is to list the members."""
    last: int | None = None
    """How many of the newest events `joined` is to have; 0 if that is not readable."""
    tags: str | None = None
    """The filter of the join, as it was written."""


def parse_destination(path: str, query: str) -> Destination | None:
    """Read `/ws` or `/ws/{room}` with `offset`, `epoch`, `last`, `presence` and `tags`; None for any other path."""
    if path.rstrip("/") == "/ws":
        return Destination(None, None)
    if not path.startswith("/ws/"):
        return None
    fields = dict(parse_qsl(query))
    offset, epoch = parse_offset(fields.get("offset", "")), fields.get("epoch", "")
    # A malformed position is one that cannot be recovered: `joined` says so.
    since = None if offset is None else Position(epoch, offset)
    by = fields.get("presence")
    presence = PresenceBy(by) if by in set(PresenceBy) else None
    last = (parse_offset(fields["last"]) or 0) if "last" in fields else None
    room = unquote(path.removeprefix("/ws/"), errors="surrogateescape")
    return Destination(room, since, presence, last, fields.get("tags"))


def _filter_of(destination: Destination) -> TagFilter | None:
    """Return the filter of the join.

    :raises Disconnect: 4003, as for a join that is refused.
    """
    try:
        return None if destination.tags is None else parse_filter(destination.tags)
    except Refused as refused:
        raise Disconnect(CloseCode.FORBIDDEN, refused.message, why=refused.why) from None


class ServedConnection:
    """Serves one connection; `serve` returns when all its tasks are gone."""

    def __init__(
        self,
        services: ConnectionServices,
        inner: ByteStream,
        head: Head,
        destination: Destination,
        *,
        address: str,
        refusal: Disconnect | None = None,
    ) -> None:
        """`head` asks for a WebSocket, and `inner` brings the bytes behind it; `address` is the client's.

        :raises HandshakeError: if the request is invalid.
        """
        self._services = services
        self._settings = services.sessions.settings.websocket
        self._stream = inner
        self._head: Head | None = head
        self._destination = destination
        self._address = address
        self._refusal = refusal
        self._nursery: trio.Nursery | None = None
        self._protocol, subprotocol = select_protocol(services.protocols, offered_subprotocols(head))
        offers = head.values(b"sec-websocket-extensions")
        agreement = agree(offers) if self._settings.compression else None
        self._response = answer_handshake(head, subprotocol, None if agreement is None else agreement.header)
        codec = self._protocol.codec
        if agreement is not None:
            codec = services.deflate.codec_of(codec, agreement, self._settings)
        self._outbox = Outbox(
            inner,
            codec,
            limit_bytes=self._settings.outbox_bytes,
            slow_reader=self._settings.slow_reader,
            disconnect=self.disconnect,
            schedule=services.flusher.schedule,
            start_writer=self._start_task,
            fail=self._fail,
            tally=services.sessions.rooms.tally,
            backlog=services.connections.backlog,
        )
        self._websocket = WebSocket(
            inner,
            self._outbox,
            services.pump,
            limit_bytes=self._settings.message_bytes,
            handle_nowait=self._handle_nowait,
            on_frames=self._charge_frames,
            start_task=self._start_task,
            fail=self._fail,
            clock=services.sessions.clock,
            inflates=agreement is not None,
        )
        limits = services.sessions.settings.limits
        self._frame_budget = TokenBucket(
            limits.messages_per_second * FRAMES_PER_MESSAGE,
            (limits.messages_burst + limits.refused_burst) * FRAMES_PER_MESSAGE,
            trio.current_time(),
        )
        self._handshake_headers: Sequence[tuple[bytes, bytes]] = ()
        """Kept for the hooks alone."""
        self._decisions: Decisions | None = None
        self._session: Session | None = None
        self._liveness = Liveness(self._settings.ping_seconds, self._settings.pong_seconds)
        self._awaiting: trio.CancelScope | None = None
        """Around the part of a command that is awaited just now."""
        self._ending: Disconnect | None = None

    @property
    def user_id(self) -> str:
        """See sessions.connections.Connection."""
        assert self._session is not None
        return self._session.user_id

    @property
    def rooms(self) -> Sequence[str]:
        """See sessions.connections.Connection."""
        return () if self._session is None else self._session.rooms

    @property
    def claims(self) -> Claims:
        """See sessions.connections.Connection."""
        assert self._session is not None
        return self._session.claims

    @property
    def queued_bytes(self) -> int:
        """See sessions.connections.Connection."""
        return self._outbox.statistics().blocked_bytes

    def facts(self) -> ConnectionFacts:
        """See sessions.connections.Connection."""
        session = self._session
        assert session is not None
        return ConnectionFacts(
            session.shown.connection,
            "websocket",
            session.shown.since_ms,
            session.is_visible,
            seconds_since_sent(self._stream.descriptor),
        )

    def check(self, now: float, wall_now: float) -> None:
        """See sessions.connections.Connection."""
        session = self._session
        if session is None or self._ending is not None:
            return
        if session.claims.has_expired(wall_now, self._services.sessions.settings.auth.leeway_seconds):
            self.disconnect(CloseCode.TOKEN_EXPIRED, "token expired")
            return
        if session.is_waiting_for_room and not self._websocket.is_being_read:
            # Its pongs lie unread behind its messages, through no fault of its own.
            self._websocket.last_received = now
        # A peer that reads is alive, though its pong may lie behind much that it has yet to read.
        last_sign = max(self._websocket.last_received, self._outbox.last_acknowledged)
        match self._liveness.next_action(now, last_sign):
            case LivenessAction.PING:
                self._outbox.put_control(PING)
            case LivenessAction.DISCONNECT:
                self.disconnect(CloseCode.NO_PONG, "no pong")
            case LivenessAction.NONE:
                pass

    def send_reconnect(self, after_ms: int) -> None:
        """See sessions.connections.Connection."""
        if self._session is not None:
            self._session.send_reconnect(after_ms)

    def _charge_frames(self, count: int) -> None:
        """End the connection if it floods with frames that are no messages; messages have a limit of their own."""
        if self._frame_budget.take(trio.current_time(), count):
            self._begin_end(
                Disconnect(CloseCode.TOO_MANY, "too many frames", why=RefusalReason.TOO_MANY_FRAMES)
            )

    def disconnect(self, code: CloseCode, reason: str, *, why: RefusalReason | None = None) -> None:
        """See sessions.connections.Connection."""
        self._begin_end(Disconnect(code, reason, why=why))

    def _begin_end(self, ending: Disconnect) -> None:
        if self._ending is None:
            self._ending = ending
            self._websocket.stop()
            if self._awaiting is not None:
                self._awaiting.cancel()
            if self._session is not None:
                self._session.drop_waiting()

    async def serve(self) -> None:
        """Serve until the end. A failure of this connection ends it alone, and is logged in one line.

        The socket is closed so that the last bytes written arrive; if cancelled, closing is left to the caller.
        In every case the leaves are in the mailboxes of its rooms when this ends.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    await self._serve()
                finally:
                    self._websocket.end_reading()
                    # Frames queued before this moment do not wait for the flusher any more.
                    self._outbox.flush()
                    # In this order: no task may be started in a nursery that is closing.
                    self._outbox.close()
                    self._nursery = None
                nursery.cancel_scope.cancel()
        except* Exception as failures:  # noqa: BLE001  # nothing of one connection may reach another
            # Also when it is cancelled at the same time.
            self._services.refusals.log_failure("connection failed", self._address, failures)
        await self._websocket.finish()

    async def _serve(self) -> None:
        """Answer the handshake, serve the session, and close."""
        if not await self._write_response():
            return
        try:
            token = self._check_handshake()
            claims = await verify_with_patience(self._services.sessions.verifier, token)
            if self._services.sessions.hooks is not None:
                claims = await self._ask_connect(self._services.sessions.hooks, token, claims)
            # Nothing may come between a token's verification and the place among the open connections, where it is taken
            # back.
            session = self._open_session(claims)
            try:
                await self._handle_messages(session)
            finally:
                self._websocket.stop()
                session.end()
                self._services.connections.discard(self)
            ending = self._ending or Disconnect(CloseCode.NORMAL, "")
        except Disconnect as refusal:
            # After the handshake, because a browser cannot see the HTTP status of a refused one.
            ending = refusal
        except Exception as error:  # noqa: BLE001  # a fault of ours ends this connection, and no other
            self._services.refusals.log_failure("connection failed", self._address, error)
            ending = INTERNAL_ERROR
        await self._close(ending)

    async def _write_response(self) -> bool:
        """Open the WebSocket; returns whether the response is written in time."""
        self._outbox.put_control(self._response)
        self._response = b""
        self._outbox.flush()
        if not self._outbox.is_empty:
            with trio.move_on_after(self._settings.handshake_seconds) as waiting:
                await self._outbox.wait_written()
            if waiting.cancelled_caught:
                self._services.refusals.note(RefusalReason.HANDSHAKE_TIMEOUT, self._address)
                return False
        # The connection may be lost already.
        return self._ending is None

    def _check_handshake(self) -> str | None:
        """Begin to read, check that the client may connect, and return its token."""
        head, self._head = self._head, None
        assert head is not None, "called once"
        if self._services.sessions.hooks is not None:
            self._handshake_headers = head.headers
        self._websocket.start(head.behind)
        if self._refusal is not None:
            raise self._refusal
        if self._services.is_draining():
            raise Disconnect(CloseCode.SERVICE_RESTART, "service restart", why=RefusalReason.DRAINING)
        origin = head.header(b"origin")
        allowed = self._settings.allowed_origins
        if origin is not None and "*" not in allowed and origin not in allowed:
            raise Disconnect(CloseCode.FORBIDDEN, "origin not allowed", why=RefusalReason.ORIGIN)
        token = find_token(query=head.query, headers=head.headers, subprotocols=offered_subprotocols(head))
        cookie = self._services.sessions.settings.auth.cookie
        if token is None and cookie is not None:
            return find_cookie_token(head.headers, name=cookie, origins=allowed)
        return token

    async def _ask_connect(self, hooks: Hooks, token: str | None, claims: Claims) -> Claims:
        """Let the application decide about the connection; returns the claims as its answer changes them."""
        sessions = self._services.sessions
        headers, self._handshake_headers = self._handshake_headers, ()
        self._decisions = Decisions.of(
            hooks,
            claims,
            sessions.connection_ids.make(),
            transport="websocket",
            address=self._address,
            headers=headers,
        )
        await self._decisions.connect(self._destination.initial_room)
        if self._services.is_draining():
            raise Disconnect(CloseCode.SERVICE_RESTART, "service restart", why=RefusalReason.DRAINING)
        # It may have expired or been taken back meanwhile.
        return self._decisions.apply(sessions.verifier.verify(token))

    def _open_session(self, claims: Claims) -> Session:
        """Return the session of an authenticated connection, which is to be ended."""
        decoder = self._protocol.decoder
        assert decoder is not None, "clients of a WebSocket send commands"
        session = Session(
            self._services.sessions,
            decoder,
            claims,
            self._outbox,
            self.disconnect,
            initial_room=self._destination.initial_room,
            on_refused=self._note_refused,
            decisions=self._decisions,
            start_task=self._start_command,
        )
        self._session = session
        if not self._services.connections.add(self):
            raise Disconnect(
                CloseCode.TOO_MANY, "too many connections of this user", why=RefusalReason.USER_FULL
            )
        return session

    async def _handle_messages(self, session: Session) -> None:
        """Handle the messages that have to wait, until the peer closes; all others are handled as they are read."""
        destination = self._destination
        if destination.initial_room is not None or session.claims.auto_join:
            wanted = _filter_of(destination)
            options = JoinOptions(destination.since, destination.presence, destination.last, wanted)
            await self._await(partial(session.join_at_start, options))
        limit_bytes = self._settings.message_bytes
        while (message := await self._websocket.receive()) is not None:
            if isinstance(message, bytes):
                raise Disconnect(CloseCode.BINARY_MESSAGE, "text messages only")
            if not isinstance(message, str):
                await self._await(message)
                continue
            # trio-websocket counts characters; a character has up to four bytes.
            if len(message) * 4 > limit_bytes and len(message.encode()) > limit_bytes:
                raise Disconnect(CloseCode.MESSAGE_TOO_BIG, "message too big")
            rest = self._handle_nowait(message)
            if rest is not None:
                await self._await(rest)
        if self._decisions is not None:
            # Messages that came whole before the peer closed are handled.
            await self._await(session.finish_waiting)

    async def _await(self, rest: Rest) -> None:
        """Await the rest of a command, until the connection is to end."""
        if self._ending is None:
            with trio.CancelScope() as self._awaiting:
                await rest()
            self._awaiting = None

    def _handle_nowait(self, message: str) -> Rest | None:
        """Let the session handle a message; an error ends this connection and no other."""
        session = self._session
        if self._ending is not None or session is None:
            return None
        try:
            return session.handle_nowait(message)
        except Disconnect as ending:
            self._begin_end(ending)
        except Exception as error:  # noqa: BLE001
            self._fail(error)
        return None

    async def _close(self, ending: Disconnect) -> None:
        """Close with the code of `ending`; nothing more is written if the peer closed first."""
        self._count_end(self._websocket.closed, ending)
        if ending.code == CloseCode.TOO_SLOW:
            self._outbox.drop_unsent()
        with trio.move_on_after(self._settings.close_seconds):
            await self._websocket.close(self._protocol.close_code_of(ending.code), ending.reason)

    def _count_end(self, closed: Closed | None, ending: Disconnect) -> None:
        """Count the end of the connection: by the peer or over an invalid frame (`closed`), or else by us."""
        if closed is not None:
            ending = _UNREADABLE.get(closed.code, Disconnect(CloseCode.NORMAL, ""))
        self._services.refusals.count_close(ending.code if closed is None else closed.code)
        user_id = None if self._session is None else self._session.user_id
        if user_id is not None:
            self._keep_close(user_id, closed, ending)
        self._services.refusals.note_ending(ending, self._address, user_id=user_id)

    def _keep_close(self, user_id: str, closed: Closed | None, ending: Disconnect) -> None:
        now = self._services.sessions.wall_clock()
        if closed is None or closed.code in _UNREADABLE:
            close = Close(now, int(ending.code), ending.reason, is_by_client=False)
        else:
            close = Close(now, closed.code, closed.reason, is_by_client=True)
        self._services.connections.recent_closes.note(user_id, close)

    def _note_refused(self, why: ErrorCode | RefusalReason) -> None:
        self._services.refusals.note(why, self._address, user_id=self.user_id)

    def _fail(self, error: Exception) -> None:
        """End this connection, and no other, over a fault of ours."""
        self._services.refusals.log_failure("connection failed", self._address, error)
        self.disconnect(INTERNAL_ERROR.code, INTERNAL_ERROR.reason)

    def _start_command(self, run: Callable[[], Awaitable[None]]) -> None:
        """Start a task that executes commands; an error in it ends this connection and no other."""

        async def run_command() -> None:
            try:
                await run()
            except Disconnect as ending:
                self._begin_end(ending)
            except Exception as error:  # noqa: BLE001
                self._fail(error)

        self._start_task(run_command)

    def _start_task(self, run: Callable[[], Awaitable[None]]) -> None:
        assert self._nursery is not None, "nothing is read or written before or behind the nursery"
        self._nursery.start_soon(run)
