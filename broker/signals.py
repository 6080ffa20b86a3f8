"""Signals that a running server obeys or survives."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import trio

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def handling_signals(handle: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Call `handle`, in the event loop, for every SIGTERM, SIGINT and SIGHUP until the block is left.

    No task has to run for it, so that a signal counts while the server is still starting. `handle` must not raise.
    Only for the main thread, as `signal.signal` is.
    """
    token = trio.lowlevel.current_trio_token()

    def deliver(number: int, _frame: FrameType | None) -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(handle, signal.Signals(number))

    before: dict[signal.Signals, Any] = {}
    try:
        for number in (*STOP_SIGNALS, signal.SIGHUP):
            before[number] = signal.signal(number, deliver)
        yield
    finally:
        for number, handler in before.items():
            # None: set by other than Python code, and lost.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
