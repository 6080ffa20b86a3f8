"""A watchdog thread that ends a process which does not stop after a signal.

Every step of a drain has a deadline, and still one may hang: a task that is shielded from cancellation, a thread, a
call that blocks the event loop. A thread that reads signals from a wake-up descriptor depends on none of them.
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
"""Time that a forced end leaves the engine and the log for their pending writes."""


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
    FLUSH_SECONDS more, to write a line of the log and to wait for `is_flushed`, which is called in another thread. Use
    it in the main thread, inside a trio.run, whose own wake-up by signals keeps working.
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
        # This ends the thread.
        writer.close()
        thread.join()
        reader.close()


@attrs.define(eq=False)
class _Watch:
    """The thread: counts signals, and ends the process at the deadline."""

    log: Log
    reader: socket.socket
    forward_to: int
    drain_seconds: float
    at_once_seconds: float
    is_flushed: Callable[[], bool]
    signals: int = 0
    deadline: float = inf

    def run(self) -> None:
        """Watch until the other socket is closed."""
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
                # A full pipe wakes its reader as well.
                with suppress(OSError):
                    os.write(self.forward_to, numbers)
            for number in numbers:
                self.count(number)

    def count(self, number: int) -> None:
        """Count a signal."""
        if number in STOP_SIGNALS:
            self.signals += 1
            seconds = self.drain_seconds if self.signals == 1 else self.at_once_seconds
            self.deadline = min(self.deadline, time.monotonic() + seconds)

    def end_process(self) -> NoReturn:
        """End it after at most FLUSH_SECONDS."""
        deadline = time.monotonic() + FLUSH_SECONDS
        # In a thread, as a handler of the log may hang.
        log_thread = threading.Thread(target=self.log_end, daemon=True)
        log_thread.start()
        with suppress(Exception):
            while time.monotonic() < deadline and not self.is_flushed():
                time.sleep(0.01)
        log_thread.join(max(0.0, deadline - time.monotonic()))
        os._exit(STATUS)

    def log_end(self) -> None:
        """Log the reason and the main thread's place in the code, and wait until that is written."""
        frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001  # documented
        at = None if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
        why = "it drained too long" if self.signals == 1 else "a second signal did not end it"
        self.log.error("process ended by force", why=why, main_thread_at=at)
        queue = getattr(self.log, "queue", None)
        if isinstance(queue, BackgroundQueue):
            queue.flush(FLUSH_SECONDS)
        if isinstance(sys.stderr, BackgroundText):
            sys.stderr.drain(FLUSH_SECONDS)
