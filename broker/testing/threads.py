"""A context of trio that is open in a thread of its own: for tests under asyncio, or under no event loop."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from typing import TypeVar

import trio
from outcome import Error, Outcome, Value

STOP_SECONDS = 30.0
"""How long a broker may take to stop before the test fails."""

T = TypeVar("T")


@contextmanager
def open_in_thread(
    opening: Callable[[], AbstractAsyncContextManager[T]],
    *,
    make_clock: Callable[[], trio.abc.Clock] | None = None,
) -> Iterator[T]:
    """Open what `opening` returns, in trio in another thread, until the block is left; it blocks until that is done.

    `make_clock` is called in that thread: a virtual clock is for the loop in which it is made.

    :raises Exception: whatever the opening or the closing raises.
    :raises RuntimeError: if it is not closed within STOP_SECONDS.
    """
    outcomes: queue.SimpleQueue[Outcome[tuple[T, Callable[[], None]]]] = queue.SimpleQueue()

    async def hold() -> None:
        stopping, token = trio.Event(), trio.lowlevel.current_trio_token()
        async with opening() as value:
            outcomes.put(Value((value, lambda: token.run_sync_soon(stopping.set))))
            await stopping.wait()

    def run() -> None:
        try:
            trio.run(hold, clock=make_clock and make_clock())
        except BaseException as failure:  # noqa: BLE001, ASYNC103  # raised in the thread of the test
            outcomes.put(Error(failure))

    thread = threading.Thread(target=run, name="greenroom under test", daemon=True)
    thread.start()
    value, stop = outcomes.get().unwrap()
    try:
        yield value
    finally:
        # A broker that failed has stopped already.
        with suppress(trio.RunFinishedError):
            stop()
        thread.join(STOP_SECONDS)
        if thread.is_alive():
            raise RuntimeError(f"the broker under test did not stop within {STOP_SECONDS:g} s")
    if not outcomes.empty():
        outcomes.get().unwrap()
