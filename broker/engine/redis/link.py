"""Requests of many tasks on one connection.

What the tasks ask in one turn of the scheduler goes out in one write, and the replies come back in order. When the
connection is lost, everyone who waits hears so at once, and whoever asks next, until there is a new one.
"""

from collections import deque

import attrs
import hiredis
import trio

from broker.engine.redis.connection import Connection, lost
from broker.engine.redis.keeping import Keeper
from broker.errors import EngineUnavailableError


@attrs.define(eq=False)
class _Request:
    """A command on its way; `reason` is why there will be no reply."""

    data: bytes
    reply: object = None
    reason: str | None = None
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
    ) -> None:
        """Begin with a connection that is there, or with why there is none."""
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
        self._last_progress = 0.0  # trio time at which something was answered, or asked when nothing waited
        self._requests = 0
        self._writes = 0

    async def ask(self, *command: str | bytes | int) -> object:
        """Return the reply to a command, which may be a `hiredis.ReplyError`.

        Waits while too many bytes wait for their replies. If cancelled, the command may or may not be done.

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
            error = EngineUnavailableError(self._down)
            await trio.lowlevel.checkpoint()
            raise error
        request = _Request(data)
        if not self._pending_bytes:
            self._last_progress = trio.current_time()
        self._pending_bytes += len(data)
        self._unsent.append(request)
        self._work.set()
        await request.done.wait()
        if request.reason is not None:
            raise EngineUnavailableError(request.reason)
        return request.reply

    async def run(self) -> None:
        """Keep the link up until cancelled, beginning with the connection that it was made with."""
        await self._keeper.run((self._write, self._read, self._watch), self._fail, self._first)

    def statistics(self) -> LinkStatistics:
        """Return a snapshot."""
        pending = len(self._unsent) + len(self._awaited)
        return LinkStatistics(self._requests, self._writes, pending, self._pending_bytes)

    async def _write(self, connection: Connection) -> None:
        self._down = None
        while True:
            await self._work.wait()
            self._work = trio.Event()
            requests, self._unsent = self._unsent, []
            self._awaited.extend(requests)
            self._writes += 1
            await connection.send(b"".join([request.data for request in requests]))

    async def _read(self, connection: Connection) -> None:
        while True:
            for reply in await connection.receive():
                if not self._awaited:
                    raise lost("a reply that nobody asked for")
                request = self._awaited.popleft()
                self._pending_bytes -= len(request.data)
                request.reply = reply
                request.done.set()
                self._requests += 1
            self._last_progress = trio.current_time()
            self._space.unpark_all()

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
            request.reason = reason
            request.done.set()
        self._awaited.clear()
        self._unsent.clear()
        self._pending_bytes = 0
        self._work = trio.Event()
        self._space.unpark_all()
