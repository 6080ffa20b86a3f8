"""The schedule by which a stopping server disconnects its clients."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from random import Random
from typing import TypeVar

import trio

C = TypeVar("C")

TICK_SECONDS = 0.02
"""Pause between two disconnections, so that thousands of connections end in some hundred turns of the scheduler."""


def plan_disconnects(count: int, window_seconds: float, random: Random) -> list[float]:
    """Return `count` delays in seconds, in random order, spread evenly over the window.

    One falls into each of `count` equal parts of the window, so that the remaining servers see a steady
    stream of clients instead of all at once.
    """
    delays = [window_seconds * (part + random.random()) / count for part in range(count)]
    random.shuffle(delays)
    return delays


async def disconnect_in_time(
    schedule: Iterable[tuple[float, C]],
    disconnect: Callable[[C], None],
    wait_empty: Callable[[], Awaitable[None]],
    *,
    started: float,
) -> None:
    """Call `disconnect` for each connection once its delay, in seconds from `started`, has passed.

    All that are due are disconnected in one turn of the scheduler, so a node that is busy does not fall behind: it may have
    thousands of connections, and turns of many milliseconds. Each waits up to 20 ms longer. Returns early once `wait_empty`
    does.
    """
    waiting = deque(sorted(schedule, key=lambda entry: entry[0]))
    while waiting:
        with trio.move_on_at(max(started + waiting[0][0], trio.current_time() + TICK_SECONDS)):
            await wait_empty()
            return
        passed_seconds = trio.current_time() - started
        while waiting and waiting[0][0] <= passed_seconds:
            disconnect(waiting.popleft()[1])
