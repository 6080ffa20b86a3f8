"""When Python looks for cycles in a process that is a server and nothing else.

By default CPython looks through all objects whenever they have grown by a quarter. Connections are some 160 objects
each and live long: while many come, that takes a third of the time, in stops of half a second at 5,000 connections.
What can be garbage in cycles comes from connections that have ended, so that is what is counted here.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import trio

THRESHOLDS = (20_000, 20, 100)
"""The young are looked at after so many new objects, the older after so many times, all after so many times that."""

FEWEST_ENDED = 1000


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Look seldom inside the block, and not at what is there already; for a program that owns its process.

    The modules alone are some 80,000 objects that stay to the end: 20 ms each time they are looked through.
    """
    before = gc.get_threshold()
    gc.set_threshold(*THRESHOLDS)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


async def run_collector(
    count_open: Callable[[], int], count_ended: Callable[[], int], *, interval_seconds: float
) -> NoReturn:
    """Look through everything each time as many connections have ended as are open, or FEWEST_ENDED; for ever.

    So the time it takes for each connection that ends is the same however many there are.
    """
    seen = count_ended()
    while True:
        await trio.sleep(interval_seconds)
        if count_ended() - seen >= max(FEWEST_ENDED, count_open()):
            seen = count_ended()
            gc.collect()
