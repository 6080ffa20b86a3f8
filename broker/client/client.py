"""The client of trio and asyncio programs: many rooms over one connection, which reconnects when it is lost."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from secrets import token_hex
from typing import Literal

import anyio
import attrs
from anyio.abc import TaskGroup

from broker.client.backoff import Reconnects, is_out_of_time
from broker.client.core import ClientCore, Kind
from broker.client.effects import (
    Effect,
    Message,
    ReconnectLater,
    Refreshed,
    RetryLater,
    RoomChanged,
    Send,
    Settle,
)
from broker.client.errors import NO_CODE, ClientError, ClosedError, NotSentError
from broker.client.refresh import Refresh
from broker.client.room import Room
from broker.client.signal import Signal
from broker.client.socket import Socket, SocketClosed
from broker.client.track import WantedTags
from broker.clocks import Clock
from broker.errors import CloseCode
from broker.model import Position

REQUESTS = 64
"""Requests that may wait for their answers; further callers wait."""
ROOM_BYTES = 1 << 20
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

    settled: anyio.Event = attrs.Factory(anyio.Event)
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
        connect_once: Callable[[Callable[[Socket, str], Awaitable[None]]], Awaitable[SocketClosed]],
        *,
        make_refresh: Callable[[Callable[[str], None]], Refresh] | None,
        reconnects: Reconnects,
        is_lasting: bool,
        on_state: Callable[[State], None],
        room_bytes: int,
        clock: Clock,
    ) -> None:
        """With `make_refresh` another token can be had: the present one is replaced before it expires."""
        self._connect_once = connect_once
        self._make_refresh = make_refresh
        self._refresh: Refresh | None = None
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
        self._turns = anyio.Semaphore(REQUESTS)
        self._changes: dict[str, Signal] = {}
        """Set when a room changes."""
        self._has_settled = False
        self._outgoing: list[str] = []
        self._has_outgoing = Signal()
        self._hurried = Signal()
        self._connection: TaskGroup | None = None
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
    async def join(
        self,
        room: str,
        *,
        since: Position | None = None,
        last: int | None = None,
        tags: WantedTags | None = None,
    ) -> AsyncIterator[Room]:
        """Join a room for the block; waits until the server has confirmed it.

        With `since`, the first messages are those after that position; with `last`, at most so many of the newest ones
        that the server holds (1000 by its default setting), followed by each later one. With `tags`
        (`{"kind": ["goal", "card"]}`) of all events only those that have one of the values of each name.

        :raises RefusedError: if the room may not be joined.
        :raises NotSentError: if its name is no text, or cannot be written; if `last` is no positive integer, or given
            together with `since`; if `tags` are no lists by name.
        :raises ClosedError: if the server does not want this client.
        :raises ValueError: if this client is in the room already.
        """
        if self._closed is not None:
            raise self._closed_error()
        if not isinstance(room, str):
            # Bytes would go out as base64, and the answer would be of another room.
            raise NotSentError(f"room: a text, not {type(room).__name__}")
        if last is not None and (since is not None or last < 1):
            raise NotSentError("last: a positive integer, not together with since")
        if tags is not None and not _is_filter(tags):
            raise NotSentError("tags: for each name a list of values")
        effects = self._core.join(room, since, self._clock(), last, tags)
        self._changes[room] = Signal()
        try:
            self._apply(effects)
            while (track := self._core.rooms[room]).joined is None:
                if track.error is not None:
                    raise track.error
                await self._changes[room].wait()
            yield Room(room, self)
        finally:
            self._apply(self._core.leave(room))
            self._changes.pop(room).set()

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
        # Here and not behind a message that was taken: there, a cancellation would lose it.
        await anyio.lowlevel.checkpoint()
        while True:
            track = self._core.rooms.get(room)
            if track is None:
                raise ClientError(f"left {room}")
            message, effects = self._core.next_message(room, self._clock())
            self._apply(effects)
            if message is not None:
                return message
            if track.error is not None:
                raise track.error
            await self._changes[room].wait()

    def reconnect_now(self) -> None:
        """Make the next attempt to connect now, instead of when it is due; no effect with a connection."""
        self._reconnects.hurry()
        self._hurried.set()

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
            if ending.final is not None:
                return ending.final
            now = anyio.current_time()
            if self._make_refresh is not None and is_out_of_time(ending.code, ending.reason):
                retry_seconds: float | None = self._reconnects.failed(now)
            else:
                retry_seconds = self._reconnects.lost(now, ending.code)
            if retry_seconds is None or not self._is_lasting:
                return cause
            self._set_state(State("waiting", cause, retry_seconds))
            with anyio.move_on_after(retry_seconds):
                await self._hurried.wait()

    async def _talk(self, socket: Socket, token: str) -> None:
        """Use a connection until it ends with SocketClosed."""
        self._reconnects.connected(anyio.current_time())
        self._outgoing.clear()
        self._is_greenroom = False
        self._set_state(State("connected"))
        async with anyio.create_task_group() as tasks:
            self._connection = tasks
            try:
                self._apply(self._core.connected(self._clock()))
                tasks.start_soon(self._write, socket)
                tasks.start_soon(self._watch, socket)
                if self._make_refresh is not None:
                    self._refresh = self._make_refresh(self._send)
                    tasks.start_soon(self._keep_token, self._refresh, token)
                while True:
                    self._receive(*await socket.receive())
                    if self._has_settled:
                        # One answer in each turn of the scheduler: tasks that wake together run in any order, and the
                        # next callers would take their turns so.
                        self._has_settled = False
                        await anyio.lowlevel.checkpoint()
            finally:
                self._connection = self._refresh = None

    async def _keep_token(self, refresh: Refresh, token: str) -> None:
        try:
            await refresh.run(token)
        except ClosedError as error:
            raise SocketClosed(error.code, error.reason, final=error) from error

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
            if not self._outgoing:
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
            now = anyio.current_time()
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
            await anyio.sleep(WATCH_SECONDS)

    def _apply(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    self._send(effect.text)
                case Settle():
                    if (answer := self._answers.get(effect.request_id)) is not None:
                        answer.outcome = effect.outcome
                        answer.settled.set()
                        self._has_settled = True
                case RoomChanged():
                    self._changes[effect.room].set()
                case RetryLater():
                    if self._connection is not None:
                        self._connection.start_soon(self._retry_later, effect)
                case ReconnectLater():
                    self._reconnects.asked_to_reconnect(anyio.current_time(), effect.after_seconds)
                case Refreshed():
                    self._on_refreshed(effect)

    def _on_refreshed(self, answer: Refreshed) -> None:
        if self._refresh is not None:
            self._refresh.answered(answer)

    def _send(self, text: str) -> None:
        self._outgoing.append(text)
        self._has_outgoing.set()

    async def _retry_later(self, effect: RetryLater) -> None:
        # Not earlier by either clock.
        not_before = self._clock() + effect.after_seconds
        await anyio.sleep(effect.after_seconds)
        self._apply(self._core.retry(effect.room, max(not_before, self._clock())))

    def _set_state(self, state: State) -> None:
        self._state = state
        self._on_state(state)

    def _closed_error(self) -> ClosedError:
        assert self._closed is not None
        error = ClosedError(self._closed.code, self._closed.reason)
        error.__cause__ = self._closed.__cause__
        return error


def _is_filter(tags: object) -> bool:
    return isinstance(tags, Mapping) and all(
        isinstance(values, Iterable) and not isinstance(values, str | bytes) for values in tags.values()
    )
