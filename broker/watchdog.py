"""Ends a process that should have stopped by itself, whatever hangs in it.

A drain has limits everywhere, and still something may hang: a task that is shielded from cancellation, a thread, a
call that blocks the event loop. Only a thread of its own, told of signals below Python, gets around all of them.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from typing import NoReturn

import attrs

from broker.log import Log
from broker.output.background import BackgroundQueue
from broker.output.text import BackgroundText
from broker.signals import STOP_SIGNALS

STATUS = 1

FLUSH_SECONDS = 0.5
"""How long the end by force waits for what the engine is storing, and for the log."""


@contextmanager
def watchdog(
    log: Log,
    *,
    drain_seconds: float,
    at_once_seconds: float,
    is_flushed: Callable[[], bool] = lambda: True,
) -> Iterator[None]:
    """End the process with status 1 if the block goes on for too long after a signal.

    That is `drain_seconds` after the first SIGTERM or SIGINT, or `at_once_seconds` after the second, and up to
    FLUSH_SECONDS more, in which a line of the log is written and `is_flushed` is waited for. That is asked in another
    thread. Inside a trio.run, whose wake-up by signals goes on, and in the main thread.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    watch = _Watch(log, reader, before, drain_seconds, at_once_seconds, is_flushed)
    thread = threading.Thread(target=watch.run, name="greenroom watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        # Which ends the thread.
        writer.close()
        thread.join()
        reader.close()


@attrs.define(eq=False)
class _Watch:
    """The thread: counts signals, and ends the process when the time is over."""

    log: Log
    reader: socket.socket
    forward_to: int
    drain_seconds: float
    at_once_seconds: float
    is_flushed: Callable[[], bool]
    signals: int = 0
    deadline: float = inf

    def run(self) -> None:
        """Watch until the other end of the pair is closed."""
        while True:
            self.reader.settimeout(
                None if self.deadline == inf else max(0.001, self.deadline - time.monotonic())
            )
            try:
                numbers = self.reader.recv(64)
            except TimeoutError:
                self.end_process()
            if not numbers:
                return
            if self.forward_to >= 0:
                # Full is as good as written: whoever reads there wakes up.
                with suppress(OSError):
                    os.write(self.forward_to, numbers)
            for number in numbers:
                self.count(number)

    def count(self, number: int) -> None:
        """Note a signal."""
        if number in STOP_SIGNALS:
            self.signals += 1
            seconds = self.drain_seconds if self.signals == 1 else self.at_once_seconds
            self.deadline = min(self.deadline, time.monotonic() + seconds)

    def end_process(self) -> NoReturn:
        """End it now, but for what can be written in a moment."""
        deadline = time.monotonic() + FLUSH_SECONDS
        # In a thread, as a handler of the log may be what hangs.
        telling = threading.Thread(target=self.tell, daemon=True)
        telling.start()
        with suppress(Exception):
            while time.monotonic() < deadline and not self.is_flushed():
                time.sleep(0.01)
        telling.join(max(0.0, deadline - time.monotonic()))
        os._exit(STATUS)

    def tell(self) -> None:
        """Log why, and where the main thread is, until that is written."""
        frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001  # documented
        at = None if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
        why = "it drained too long" if self.signals == 1 else "a second signal did not end it"
        self.log.error("process ended by force", why=why, main_thread_at=at)
        queue = getattr(self.log, "queue", None)
        if isinstance(queue, BackgroundQueue):
            queue.flush(FLUSH_SECONDS)
        if isinstance(sys.stderr, BackgroundText):
            sys.stderr.drain(FLUSH_SECONDS)
