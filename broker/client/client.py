"""The client of trio programs: many rooms over one connection, which reconnects when it is lost."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from random import Random, SystemRandom
from secrets import token_hex
from typing import Literal, TypeAlias

import attrs
import trio

from actors.groups import raising_sole_error
from broker.client.address import parse_address
from broker.client.backoff import Reconnects
from broker.client.core import ClientCore, Kind
from broker.client.effects import Effect, Message, ReconnectLater, RetryLater, RoomChanged, Send, Settle
from broker.client.errors import NO_CODE, ClientError, ClosedError, NotSentError
from broker.client.room import Room
from broker.client.socket import Dial, Socket, SocketClosed, dial_tcp, hold_socket
from broker.client.token import clean_token
from broker.clocks import Clock, SleepAwareClock
from broker.errors import CloseCode
from broker.model import Position
from broker.wakeup import Wakeup

Token: TypeAlias = str | Callable[[], Awaitable[str]]

REQUESTS = 64
"""Requests that may wait for their answers; further callers wait."""
ROOM_BYTES = 1 << 20
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 40.0
"""Silence after which the server is pinged; it pings silent clients itself every 25 s by default."""
PONG_SECONDS = 15.0
WATCH_SECONDS = 1.0
"""How often a connection is checked."""
RECONNECT_GRACE_SECONDS = 5.0
"""How long the server may leave a connection open after the time at which it asked for a reconnect."""


@attrs.frozen
class State:
    """The state of a client's connection.

    `waiting`: lost because of `cause`, next attempt in `retry_seconds`. `closed`: ended for good because of `cause`.
    """

    kind: Literal["connecting", "connected", "waiting", "closed"]
    cause: ClosedError | None = None
    retry_seconds: float = 0.0


@attrs.frozen
class ClientStatistics:
    """A snapshot of a client."""

    state: State
    rooms: int
    requests_waiting: int
    """Requests without an answer yet."""
    bytes_waiting: int
    """Bytes of messages that the application has not read."""


@attrs.define(eq=False)
class _Answer:
    """The future answer to one request."""

    settled: trio.Event = attrs.Factory(trio.Event)
    outcome: Message | ClientError | None = None

    def unwrap(self) -> Message:
        assert self.outcome is not None
        if isinstance(self.outcome, ClientError):
            raise self.outcome
        return self.outcome


class Client:
    """Rooms on a Greenroom server; made by `connect`."""

    def __init__(
        self,
        connect_once: Callable[[Callable[[Socket], Awaitable[None]]], Awaitable[SocketClosed]],
        *,
        reconnects: Reconnects,
        is_lasting: bool,
        on_state: Callable[[State], None],
        room_bytes: int,
        clock: Clock,
    ) -> None:
        self._connect_once = connect_once
        self._reconnects = reconnects
        self._is_lasting = is_lasting
        self._on_state = on_state
        self._clock = clock
        self._state = State("connecting")
        prefix = token_hex(8)
        self._count = 0

        def make_id() -> str:
            self._count += 1
            return f"{prefix}-{self._count}"

        self._make_id = make_id
        self._core = ClientCore(make_id, room_bytes)
        self._answers: dict[str, _Answer] = {}
        self._turns = trio.Semaphore(REQUESTS)
        self._waiters: dict[str, trio.lowlevel.ParkingLot] = {}
        self._outgoing: list[str] = []
        self._has_outgoing = Wakeup()
        self._connection: trio.Nursery | None = None
        self._closed: ClosedError | None = None
        self._is_greenroom = False
        """Whether a readable message has come on the present connection."""

    @property
    def state(self) -> State:
        """The state of the connection."""
        return self._state

    def statistics(self) -> ClientStatistics:
        """Return a snapshot."""
        tracks = self._core.rooms.values()
        waiting_bytes = sum(track.waiting_bytes for track in tracks)
        return ClientStatistics(self._state, len(tracks), len(self._answers), waiting_bytes)

    @asynccontextmanager
    async def join(self, room: str, *, since: Position | None = None) -> AsyncIterator[Room]:
        """Join a room for the block; waits until the server has confirmed it.

        With `since`, the first messages are those after that position.

        :raises RefusedError: if the room may not be joined.
        :raises NotSentError: if its name is no text, or cannot be written.
        :raises ClosedError: if the server does not want this client.
        :raises ValueError: if this client is in the room already.
        """
        if self._closed is not None:
            raise self._closed_error()
        if not isinstance(room, str):
            # Bytes would go out as base64, and the answer would be of another room.
            raise NotSentError(f"room: a text, not {type(room).__name__}")
        effects = self._core.join(room, since, self._clock())
        self._waiters[room] = trio.lowlevel.ParkingLot()
        try:
            self._apply(effects)
            while (track := self._core.rooms[room]).joined is None:
                if track.error is not None:
                    raise track.error
                await self._waiters[room].park()
            yield Room(room, self)
        finally:
            self._apply(self._core.leave(room))
            self._waiters.pop(room).unpark_all()

    async def ask(self, message: Message, kind: Kind = "send") -> Message:
        """Send a request to a room and return its answer; see `Room`, whose methods use this.

        It is sent once the room is joined, again after each lost connection, and again after `retry_after_ms` of a
        temporary refusal (`rate_limited`, `unavailable`). Requests of a room are sent in order; those in flight
        together with a refused one may be applied before it. If cancelled, it may or may not be applied, and is not
        sent again.

        :raises NotSentError: if it has no JSON form.
        :raises RefusedError: if the server refuses it.
        :raises UnavailableError: if the server has refused every request in the room, temporarily, for 240 s.
        :raises RemovedError: if this client is no longer in the room.
        :raises ConnectionLostError: if it may not be sent again, and may or may not have been applied.
        :raises ClosedError: if the server does not want this client back.
        """
        async with self._turns:
            if self._closed is not None:
                raise self._closed_error()
            request_id = message.setdefault("id", self._make_id())
            answer = _Answer()
            effects = self._core.request(message, self._clock(), kind)
            self._answers[request_id] = answer
            try:
                self._apply(effects)
                await answer.settled.wait()
            finally:
                del self._answers[request_id]
                self._apply(self._core.cancel(request_id, self._clock()))
        return answer.unwrap()

    async def next_message(self, room: str) -> Message:
        """Wait for a room's next message; see `Room`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            track = self._core.rooms.get(room)
            if track is None:
                raise ClientError(f"left {room}")
            message, effects = self._core.next_message(room, self._clock())
            self._apply(effects)
            if message is not None:
                await trio.lowlevel.cancel_shielded_checkpoint()
                return message
            if track.error is not None:
                raise track.error
            await self._waiters[room].park()

    def position(self, room: str) -> Position | None:
        """Return the position of the last message that the application has read."""
        return self._core.rooms[room].taken

    def joined(self, room: str) -> Message:
        """Return the room's last `joined`."""
        joined = self._core.rooms[room].joined
        assert joined is not None, "a Room is made once it is joined"
        return joined

    async def run(self) -> None:
        """Stay connected until the server ends this client for good; pending calls then raise ClosedError."""
        try:
            cause = await self._stay_connected()
        except ClosedError as error:
            cause = error
        self._closed = cause
        self._set_state(State("closed", cause))
        self._apply(self._core.closed(cause))

    async def _stay_connected(self) -> ClosedError:
        while True:
            self._set_state(State("connecting"))
            ending = await self._connect_once(self._talk)
            cause = ClosedError(ending.code, ending.reason)
            self._apply(self._core.disconnected(ending.code))
            retry_seconds = self._reconnects.lost(trio.current_time(), ending.code)
            if retry_seconds is None or not self._is_lasting:
                return cause
            self._set_state(State("waiting", cause, retry_seconds))
            await trio.sleep(retry_seconds)

    async def _talk(self, socket: Socket) -> None:
        """Use a connection until it ends with SocketClosed."""
        self._reconnects.connected(trio.current_time())
        self._outgoing.clear()
        self._is_greenroom = False
        self._set_state(State("connected"))
        async with trio.open_nursery() as nursery:
            self._connection = nursery
            try:
                self._apply(self._core.connected(self._clock()))
                nursery.start_soon(self._write, socket)
                nursery.start_soon(self._watch, socket)
                while True:
                    self._receive(*await socket.receive())
            finally:
                self._connection = None

    def _receive(self, message: Message | None, size: int) -> None:
        """Handle a message. Unreadable ones are skipped, unless none was readable so far: then it is no Greenroom server."""
        effects: list[Effect] | None = None
        if message is not None:
            with suppress(KeyError, TypeError, AttributeError):
                effects = self._core.received(message, size, self._clock())
                self._is_greenroom = True
        if not self._is_greenroom:
            raise SocketClosed(NO_CODE, "what the server says is no message of ours")
        self._apply(effects or ())

    async def _write(self, socket: Socket) -> None:
        while True:
            await self._has_outgoing.wait()
            texts, self._outgoing = self._outgoing, []
            for text in texts:
                await socket.send(text)

    async def _watch(self, socket: Socket) -> None:
        """End a connection that is silent, or that the server has asked to leave.

        After a sleep of the machine the server is pinged first, and its answer is waited for while awake.
        """
        pinged_at: float | None = None
        while True:
            now = trio.current_time()
            reconnect_at = self._reconnects.reconnect_at
            if reconnect_at is not None and now >= reconnect_at + RECONNECT_GRACE_SECONDS:
                raise SocketClosed(CloseCode.SERVICE_RESTART, "service restart")
            if self._clock() - socket.last_received < SILENCE_SECONDS:
                pinged_at = None
            elif pinged_at is None:
                pinged_at = now
                self._send('{"type":"ping","id":0}')
            elif now - pinged_at >= PONG_SECONDS:
                raise SocketClosed(NO_CODE, "the server is silent")
            await trio.sleep(WATCH_SECONDS)

    def _apply(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    self._send(effect.text)
                case Settle():
                    if (answer := self._answers.get(effect.request_id)) is not None:
                        answer.outcome = effect.outcome
                        answer.settled.set()
                case RoomChanged():
                    self._waiters[effect.room].unpark_all()
                case RetryLater():
                    if self._connection is not None:
                        self._connection.start_soon(self._retry_later, effect)
                case ReconnectLater():
                    self._reconnects.asked_to_reconnect(trio.current_time(), effect.after_seconds)

    def _send(self, text: str) -> None:
        self._outgoing.append(text)
        self._has_outgoing.set()

    async def _retry_later(self, effect: RetryLater) -> None:
        # Not earlier by either clock.
        not_before = self._clock() + effect.after_seconds
        await trio.sleep(effect.after_seconds)
        self._apply(self._core.retry(effect.room, max(not_before, self._clock())))

    def _set_state(self, state: State) -> None:
        self._state = state
        self._on_state(state)

    def _closed_error(self) -> ClosedError:
        assert self._closed is not None
        error = ClosedError(self._closed.code, self._closed.reason)
        error.__cause__ = self._closed.__cause__
        return error


@asynccontextmanager
async def connect(
    url: str,
    *,
    token: Token,
    reconnects: bool = True,
    on_state: Callable[[State], None] = lambda _state: None,
    ssl_context: ssl.SSLContext | None = None,
    timeout_seconds: float = CONNECT_SECONDS,
    room_bytes: int = ROOM_BYTES,
    dial: Dial | None = None,
    random: Random | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Client]:
    """Connect to the server at `url` (http, https, ws or wss) for the block.

    Returns at once; `Client.join` waits for the connection. After a loss it reconnects with a delay with full jitter,
    of up to 1 s at first and up to 30 s later, or at the time that the server has named, but never after close codes
    40xx and 1000; every room is then resumed where it was. With `reconnects=False` the first loss ends the client.

    `token` is a token, or an async function called for one before each connection, which replaces an expired token
    (4101). Its OSError counts as a failed attempt; any other exception ends the client. White space around a token is
    dropped; one with characters that no token has ends the client as a refused one does (4001).
    `on_state` is called with every change. `timeout_seconds` bounds one attempt. `room_bytes` bounds the messages that
    wait in each room for the application: beyond, new ones are dropped, and recovered from the server later. `dial`
    opens the byte stream instead of TCP. `clock` gives seconds that go on while the machine sleeps; by it the client
    knows whether the server still remembers an id.

    Leaving the block closes the connection (at most a second). An exception of the block comes out as it is.

    :raises ValueError: if `url` is no address.
    """
    address = parse_address(url)
    dial = dial or dial_tcp(address, ssl_context)
    clock = clock or SleepAwareClock(trio.current_time)

    async def connect_once(talk: Callable[[Socket], Awaitable[None]]) -> SocketClosed:
        try:
            present = token if isinstance(token, str) else await token()
        except OSError as error:
            return SocketClosed(NO_CODE, f"no token: {error}")
        except Exception as error:
            # The application's own error: raised in its calls.
            raise ClosedError(NO_CODE, f"no token: {error!r}") from error
        bearer = clean_token(present)
        if bearer is None:
            # As the server would refuse it.
            return SocketClosed(CloseCode.UNAUTHORIZED, "the token is malformed")
        return await hold_socket(dial, address, bearer, talk, clock, timeout_seconds=timeout_seconds)

    client = Client(
        connect_once,
        reconnects=Reconnects(random or SystemRandom()),
        is_lasting=reconnects,
        on_state=on_state,
        room_bytes=room_bytes,
        clock=clock,
    )
    with raising_sole_error():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            yield client
            nursery.cancel_scope.cancel()
