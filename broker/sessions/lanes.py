"""The commands of one connection that wait for the application, room by room.

In each room they are executed in the order in which they came, and so is whatever comes behind them. Other rooms of the
connection, and what names no room, go on meanwhile.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from broker.errors import ErrorCode, Refused
from broker.protocol import commands

MOST_WAITING = 128
"""Commands of one room that may wait: twice what one of our clients has under way. Their bytes are bounded by
`limits.user_bytes_burst`."""
RETRY_MS = 1000

StartTask = Callable[[Callable[[], Awaitable[None]]], None]
"""Starts a task that ends with the connection, and in which an error ends that connection alone."""


class Lanes:
    """One queue for each room that has commands waiting."""

    def __init__(
        self, start_task: StartTask, execute: Callable[[str, commands.AnyCommand], Awaitable[None]]
    ) -> None:
        """`execute` executes a command of a room; it answers errors itself."""
        self._start_task = start_task
        self._execute = execute
        self._waiting: dict[str, deque[commands.AnyCommand]] = {}
        self._scopes: set[trio.CancelScope] = set()
        self._is_closed = False
        self._emptied = trio.lowlevel.ParkingLot()

    def __contains__(self, room: str) -> bool:
        """Whether commands of a room wait."""
        return room in self._waiting

    def put(self, room: str, command: commands.AnyCommand) -> None:
        """Execute a command behind those of its room that wait.

        :raises Refused: `rate_limited` if too many do.
        """
        waiting = self._waiting.get(room)
        if waiting is None:
            self._waiting[room] = deque([command])
            self._start_task(partial(self._run, room))
        elif len(waiting) >= MOST_WAITING:
            message = "too many requests of this room wait for the application"
            raise Refused(ErrorCode.RATE_LIMITED, message, RETRY_MS)
        else:
            waiting.append(command)

    async def wait_empty(self) -> None:
        """Wait until nothing waits any more."""
        while self._waiting:
            await self._emptied.park()

    def close(self) -> None:
        """Execute nothing more; what waits is dropped, and what is under way is cancelled. Safe to call twice."""
        self._is_closed = True
        self._waiting.clear()
        for scope in self._scopes:
            scope.cancel()

    async def _run(self, room: str) -> None:
        waiting = self._waiting.get(room)
        if waiting is None or self._is_closed:
            return
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                while waiting and not self._is_closed:
                    # It stays in its place until it is done: those behind it must not overtake it.
                    await self._execute(room, waiting[0])
                    waiting.popleft()
            finally:
                self._scopes.discard(scope)
                self._waiting.pop(room, None)
                if not self._waiting:
                    self._emptied.unpark_all()
