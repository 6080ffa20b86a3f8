"""Requests of many tasks on one connection.

The requests of one turn of the scheduler go out in one write, and the replies come back in order. When the connection
is lost, all pending requests fail at once, and so do new ones until there is another connection. A reply that its
command cannot have is a lost connection too: no reply behind it can be matched to its request.

A demoted server keeps its connections open. When a refusal shows that it was demoted, another connection is opened
first, as it may lead to the new master; the old one is left once no request waits for a reply on it, so none is lost.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
import hiredis
import msgspec
import trio

from broker.engine.redis.client.commands import Argument, pack_command
from broker.engine.redis.client.connection import Connection
from broker.engine.redis.client.errors import (
    RefusedByRedisError,
    abbreviated,
    connection_lost,
    refused,
    unreachable,
)
from broker.engine.redis.client.reconnector import STABLE_SECONDS, Reconnector, Superseded, retry_seconds
from broker.errors import ConfigurationError, EngineUnavailableError
from broker.histograms import SizeHistogram
from broker.wakeup import Wakeup

T = TypeVar("T")


class _Request(msgspec.Struct, eq=False):
    """A pending command. `on_done` is called with the parsed reply, or with why there is none, and must not raise."""

    data: bytes
    parse: Callable[[object], Any]
    on_done: Callable[[Any], None]


@attrs.frozen
class LinkStatistics:
    """A snapshot of a link."""

    requests: int
    """Commands answered so far."""
    writes: int
    """Writes that they took."""
    pending: int
    """Commands that wait for their replies."""
    pending_bytes: int


class Link:
    """The requests to one server; `run` it in a nursery."""

    def __init__(
        self,
        reconnector: Reconnector,
        first: Connection | EngineUnavailableError,
        *,
        timeout_seconds: float,
        pending_bytes: int,
        on_other_server: Callable[[], None],
    ) -> None:
        """Start with an open connection, or with the reason why there is none.

        `on_other_server` is called when a demoted server was left for another one.
        """
        self._reconnector = reconnector
        self._first = first if isinstance(first, Connection) else None
        self._timeout_seconds = timeout_seconds
        self._most_pending_bytes = pending_bytes
        self._pending_bytes = 0
        self._unsent: list[_Request] = []
        self._awaited: deque[_Request] = deque()
        self._has_work = Wakeup()
        self._space = trio.lowlevel.ParkingLot()
        self._down = None if isinstance(first, Connection) else str(first)
        self._on_other_server = on_other_server
        self._refusal: RefusedByRedisError | None = None  # the last one that follows a failover
        self._was_refused = Wakeup()
        self._is_leaving = False  # nothing more is sent on this connection
        self._all_answered = Wakeup()
        self._moves = 0  # in a row
        self._moved_at = 0.0  # trio time
        self._last_progress = 0.0  # trio time of the latest reply, or of the first request that waits
        self._requests = 0
        self._writes = 0
        self.batches = SizeHistogram()
        """Commands that went out in one write."""

    async def request(self, *command: Argument, parse: Callable[[object], T]) -> T:
        """Send a command and return its reply, parsed; `parse` raises ValueError for a reply it cannot have.

        Waits while more than `pending_bytes` of commands wait for their replies. If cancelled, the command may or
        may not be executed.

        :raises ScriptMissingError: if the server does not know the script.
        :raises RefusedByRedisError: if the server answers with an error.
        :raises EngineUnavailableError: if there is no connection, or it is lost before the reply; the command
            may or may not be executed then.
        """
        return await self.request_packed(pack_command(*command), parse=parse)

    async def request_packed(self, data: bytes, *, parse: Callable[[object], T]) -> T:
        """Send a command as `request` does."""
        while self._down is None and not self._has_space(data):
            await self._space.park()
        if self._down is not None:
            error = unreachable(self._down)
            await trio.lowlevel.checkpoint()
            raise error
        results: list[T | EngineUnavailableError] = []
        done = trio.Event()

        def take(result: T | EngineUnavailableError) -> None:
            results.append(result)
            done.set()

        self._send(_Request(data, parse, take))
        await done.wait()
        result = results[0]
        if isinstance(result, EngineUnavailableError):
            raise result
        return result

    def request_soon(
        self,
        data: bytes,
        *,
        parse: Callable[[object], T],
        on_done: Callable[[T | EngineUnavailableError], None],
    ) -> bool:
        """Send a packed command, but do not wait; False, with nothing done, if `request` would have to.

        `on_done` is called once, in another task, with the reply or with what `request` would raise; it must not raise.
        Commands are executed in the order in which they were sent, those of `request` among them.
        """
        if self._down is not None or self._space or not self._has_space(data):
            return False
        self._send(_Request(data, parse, on_done))
        return True

    def _has_space(self, data: bytes) -> bool:
        return not self._pending_bytes or self._pending_bytes + len(data) <= self._most_pending_bytes

    def _send(self, request: _Request) -> None:
        if not self._pending_bytes:
            self._last_progress = trio.current_time()
        self._pending_bytes += len(request.data)
        if not self._unsent:
            self._has_work.set()
        self._unsent.append(request)

    async def run(self) -> None:
        """Keep a connection up until cancelled, starting with the one given, if any."""
        await self._reconnector.run(
            (self._write, self._read, self._watch, self._leave), self._fail, self._first
        )

    def statistics(self) -> LinkStatistics:
        """Return a snapshot."""
        pending = len(self._unsent) + len(self._awaited)
        return LinkStatistics(self._requests, self._writes, pending, self._pending_bytes)

    async def _write(self, connection: Connection) -> None:
        self._down = None
        self._is_leaving = False
        self._last_progress = trio.current_time()
        self._has_work.set()
        while True:
            await self._has_work.wait()
            if self._is_leaving or not self._unsent:
                continue
            requests, self._unsent = self._unsent, []
            self._awaited.extend(requests)
            self._writes += 1
            self.batches.note(len(requests))
            await connection.send(b"".join([request.data for request in requests]))

    async def _read(self, connection: Connection) -> None:
        is_working = False
        while True:
            for reply in await connection.receive():
                if not self._awaited:
                    raise connection_lost(f"a reply that nobody asked for: {abbreviated(reply)}")
                result = self._settle(self._awaited[0], reply)
                request = self._awaited.popleft()
                self._pending_bytes -= len(request.data)
                self._requests += 1
                request.on_done(result)
            if not is_working:
                # Only now: what answers like no Redis, or not at all, is greeted well each time.
                is_working = True
                self._reconnector.note_working()
            if not self._awaited:
                self._all_answered.set()
            self._last_progress = trio.current_time()
            self._space.unpark_all()

    def _settle(self, request: _Request, reply: object) -> object:
        """Return the parsed reply, or the error that the server answered with."""
        if isinstance(reply, hiredis.ReplyError):
            error = refused(reply)
            if isinstance(error, RefusedByRedisError):
                self._note_refusal(error)
            return error
        try:
            return request.parse(reply)
        except ValueError as error:
            raise connection_lost(f"not the answer of a Redis ({error}): {abbreviated(reply)}") from error

    def _note_refusal(self, refusal: RefusedByRedisError) -> None:
        self._reconnector.health.note_refusal(str(refusal))
        if refusal.is_elsewhere:
            self._refusal = refusal
            self._was_refused.set()

    async def _leave(self, _connection: Connection) -> None:
        """Leave a server that cannot serve any more for another connection, once that is open."""
        self._was_refused.clear()
        while True:
            await self._was_refused.wait()
            refusal = self._refusal
            assert refusal is not None, "it is set before the wakeup"
            if trio.current_time() - self._moved_at > STABLE_SECONDS:
                self._moves = 0
            if self._moves:
                await trio.sleep(retry_seconds(self._moves, self._reconnector.random))
            self._moves += 1
            self._moved_at = trio.current_time()
            try:
                other = await self._reconnector.dial()
            except (EngineUnavailableError, ConfigurationError):
                continue  # tried again at the next refusal; the heartbeat's comes in any case
            if other.is_replica and refusal.leaves_reads:
                await other.aclose()
                continue
            try:
                await self._wait_all_answered()
            except BaseException:
                await other.aclose()  # noqa: ASYNC120  # does not wait
                raise
            if refusal.is_of_replica and not other.is_replica:
                self._on_other_server()
            raise Superseded(other)

    async def _wait_all_answered(self) -> None:
        self._is_leaving = True
        while self._awaited:
            await self._all_answered.wait()

    async def _watch(self, _connection: Connection) -> None:
        """End the connection to a server that has stopped answering or reading."""
        while True:
            await trio.sleep(self._timeout_seconds / 4)
            if self._pending_bytes and trio.current_time() - self._last_progress > self._timeout_seconds:
                raise connection_lost(f"no answer within {self._timeout_seconds:g} seconds")

    def _fail(self, reason: str) -> None:
        """Fail all pending requests, and new ones until there is another connection."""
        self._down = reason
        failed = [*self._awaited, *self._unsent]
        self._awaited.clear()
        self._unsent.clear()
        self._pending_bytes = 0
        self._has_work.clear()
        self._space.unpark_all()
        for request in failed:
            request.on_done(unreachable(reason))
