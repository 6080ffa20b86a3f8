"""The handlers of SIGTERM, SIGINT and SIGHUP in a running server."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import trio

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def handling_signals(handle: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Call `handle` in the event loop for every SIGTERM, SIGINT and SIGHUP until the end of the block.

    It needs no task, so signals are handled while the server is still starting. `handle` must not raise. Only for the
    main thread, like `signal.signal`.
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
            # None: a handler of C code, which Python cannot restore.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
