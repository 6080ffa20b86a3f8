"""Requests of many tasks on one connection.

What the tasks ask in one turn of the scheduler goes out in one write, and the replies come back in order. When the
connection is lost, everyone who waits hears so at once, and whoever asks next, until there is a new one. It is
also lost when a reply is not what the command can be answered with: no reply behind it belongs to its request.

A server that has been demoted keeps its connections. When a refusal says so, another connection is made first, which
may lead elsewhere; the old one is left once nothing waits on it, so that nobody's request is lost to that.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
import hiredis
import trio

from broker.engine.redis.connection import Connection
from broker.engine.redis.errors import RefusedByRedisError, lost, refused, shown, unreachable
from broker.engine.redis.keeping import STABLE_SECONDS, Keeper, Superseded, retry_seconds
from broker.errors import ConfigurationError, EngineUnavailableError

T = TypeVar("T")


@attrs.define(eq=False)
class _Request:
    """A command on its way; `error` is why there will be no reply."""

    data: bytes
    parse: Callable[[object], Any]
    reply: Any = None
    error: EngineUnavailableError | None = None
    done: trio.Event = attrs.Factory(trio.Event)


@attrs.frozen
class LinkStatistics:
    """A snapshot of a link."""

    requests: int
    """Commands answered since it was made."""
    writes: int
    """Writes that they took."""
    pending: int
    """Commands that wait for their reply."""
    pending_bytes: int


class Link:
    """The way to one server; `run` it in a nursery."""

    def __init__(
        self,
        keeper: Keeper,
        first: Connection | EngineUnavailableError,
        *,
        timeout_seconds: float,
        pending_bytes: int,
        on_other_server: Callable[[], None],
    ) -> None:
        """Begin with a connection that is there, or with why there is none.

        `on_other_server` is called when a demoted server was left for another one.
        """
        self._keeper = keeper
        self._first = first if isinstance(first, Connection) else None
        self._timeout_seconds = timeout_seconds
        self._most_pending_bytes = pending_bytes
        self._pending_bytes = 0
        self._unsent: list[_Request] = []
        self._awaited: deque[_Request] = deque()
        self._work = trio.Event()
        self._space = trio.lowlevel.ParkingLot()
        self._down = None if isinstance(first, Connection) else str(first)
        self._on_other_server = on_other_server
        self._refusal: RefusedByRedisError | None = (
            None  # the last one that says that the server is elsewhere
        )
        self._refused = trio.Event()
        self._is_leaving = False  # nothing more is sent on this connection
        self._emptied = trio.Event()
        self._moves = 0  # in a row
        self._moved_at = 0.0  # trio time
        self._last_progress = 0.0  # trio time at which something was answered, or asked when nothing waited
        self._requests = 0
        self._writes = 0

    async def ask(self, *command: str | bytes | int, parse: Callable[[object], T]) -> T:
        """Return what `parse` makes of the reply; it raises ValueError for what is no reply to this command.

        Waits while too many bytes wait for their replies. If cancelled, the command may or may not be done.

        :raises ScriptMissingError: if the server does not know the script.
        :raises RefusedByRedisError: if the server refuses.
        :raises EngineUnavailableError: if there is no connection, or it is lost before the reply; the command
            may or may not be done then.
        """
        data = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub means tuple[…, ...]
        while (
            self._down is None
            and self._pending_bytes
            and self._pending_bytes + len(data) > self._most_pending_bytes
        ):
            await self._space.park()
        if self._down is not None:
            error = unreachable(self._down)
            await trio.lowlevel.checkpoint()
            raise error
        request = _Request(data, parse)
        if not self._pending_bytes:
            self._last_progress = trio.current_time()
        self._pending_bytes += len(data)
        self._unsent.append(request)
        self._work.set()
        await request.done.wait()
        if request.error is not None:
            raise request.error
        reply: T = request.reply
        return reply

    async def run(self) -> None:
        """Keep the link up until cancelled, beginning with the connection that it was made with."""
        await self._keeper.run((self._write, self._read, self._watch, self._leave), self._fail, self._first)

    def statistics(self) -> LinkStatistics:
        """Return a snapshot."""
        pending = len(self._unsent) + len(self._awaited)
        return LinkStatistics(self._requests, self._writes, pending, self._pending_bytes)

    async def _write(self, connection: Connection) -> None:
        self._down = None
        self._is_leaving = False
        self._last_progress = trio.current_time()
        self._work.set()
        while True:
            await self._work.wait()
            self._work = trio.Event()
            if self._is_leaving or not self._unsent:
                continue
            requests, self._unsent = self._unsent, []
            self._awaited.extend(requests)
            self._writes += 1
            await connection.send(b"".join([request.data for request in requests]))

    async def _read(self, connection: Connection) -> None:
        while True:
            for reply in await connection.receive():
                if not self._awaited:
                    raise lost(f"a reply that nobody asked for: {shown(reply)}")
                self._settle(self._awaited[0], reply)
                request = self._awaited.popleft()
                self._pending_bytes -= len(request.data)
                request.done.set()
                self._requests += 1
            if not self._awaited:
                self._emptied.set()
            self._last_progress = trio.current_time()
            self._space.unpark_all()

    def _settle(self, request: _Request, reply: object) -> None:
        if isinstance(reply, hiredis.ReplyError):
            request.error = refused(reply)
            if isinstance(request.error, RefusedByRedisError):
                self._note_refusal(request.error)
            return
        try:
            request.reply = request.parse(reply)
        except ValueError as error:
            raise lost(f"not the answer of a Redis ({error}): {shown(reply)}") from error

    def _note_refusal(self, refusal: RefusedByRedisError) -> None:
        self._keeper.health.note_refusal(str(refusal))
        if refusal.is_elsewhere:
            self._refusal = refusal
            self._refused.set()

    async def _leave(self, _connection: Connection) -> None:
        """Leave a server that says that it cannot serve any more, when there is another connection."""
        self._refused = trio.Event()  # this task waits for it, so no other may replace it
        while True:
            await self._refused.wait()
            self._refused = trio.Event()
            refusal = self._refusal
            assert refusal is not None, "it is set before the event"
            if trio.current_time() - self._moved_at > STABLE_SECONDS:
                self._moves = 0
            if self._moves:
                await trio.sleep(retry_seconds(self._moves, self._keeper.random))
            self._moves += 1
            self._moved_at = trio.current_time()
            try:
                other = await self._keeper.dial()
            except (EngineUnavailableError, ConfigurationError):
                continue  # asked again with the next refusal, which the probe brings
            if other.is_replica and refusal.leaves_reads:
                await other.aclose()
                continue
            try:
                await self._wait_nothing_waits()
            except BaseException:
                await other.aclose()  # noqa: ASYNC120  # does not wait
                raise
            if refusal.is_of_replica and not other.is_replica:
                self._on_other_server()
            raise Superseded(other)

    async def _wait_nothing_waits(self) -> None:
        self._is_leaving = True
        while self._awaited:
            self._emptied = trio.Event()
            await self._emptied.wait()

    async def _watch(self, _connection: Connection) -> None:
        """Give up on a server that has stopped answering, or does not take what is sent."""
        while True:
            await trio.sleep(self._timeout_seconds / 4)
            if self._pending_bytes and trio.current_time() - self._last_progress > self._timeout_seconds:
                raise lost(f"no answer within {self._timeout_seconds:g} seconds")

    def _fail(self, reason: str) -> None:
        """Tell everyone who waits, and whoever asks until there is a connection again."""
        self._down = reason
        for request in (*self._awaited, *self._unsent):
            request.error = unreachable(reason)
            request.done.set()
        self._awaited.clear()
        self._unsent.clear()
        self._pending_bytes = 0
        self._work = trio.Event()
        self._space.unpark_all()
