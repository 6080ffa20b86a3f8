"""Blocking work, such as writing to a pipe that nobody reads, in a thread with a bounded queue."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import attrs

T = TypeVar("T")

LIMIT_BYTES = 1 << 20

FLUSH_SECONDS = 1.0
"""How long the end of a program waits for the queue."""

IDLE_SECONDS = 10.0
"""After so long without work the thread ends; the next item starts another."""


@attrs.frozen
class _Item(Generic[T]):
    value: T
    size_bytes: int
    lost: int = 0
    """Number of dropped items that it reports; 0 for an ordinary one."""


class BackgroundQueue(Generic[T]):
    """Passes items to `consume` in order, in a daemon thread; `put_nowait` never waits for it.

    Past `limit_bytes` items are dropped and counted, as are those that `consume` failed on. `make_loss(count)` makes an
    item that reports them, before the next item that fits or at the end of the queue. May be used from any
    thread.
    """

    def __init__(
        self, consume: Callable[[T], bool], make_loss: Callable[[int], T], *, limit_bytes: int = LIMIT_BYTES
    ) -> None:
        """`consume` may block, must not raise, and returns whether the item has arrived."""
        self._consume = consume
        self._make_loss = make_loss
        self._limit_bytes = limit_bytes
        # An RLock, as a finalizer of the same thread may log in the midst of a put.
        self._changed = threading.Condition(threading.RLock())
        self._items: deque[_Item[T]] = deque()
        self._bytes = 0
        self._is_consuming = False
        self._unreported = 0
        self._dropped = 0
        self._thread: threading.Thread | None = None

    @property
    def dropped(self) -> int:
        """How many items were dropped since the beginning."""
        return self._dropped

    def put_nowait(self, value: T, size_bytes: int) -> None:
        """Queue an item, or drop it; one larger than the limit is queued when the queue is empty."""
        with self._changed:
            if self._items and self._bytes + size_bytes > self._limit_bytes:
                self._dropped += 1
                self._unreported += 1
                return
            self._report_loss()
            self._append(_Item(value, size_bytes))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="greenroom log", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until all is consumed, or the time is over; returns whether it is. It blocks, so no trio task calls it."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            while self.is_busy:
                left_seconds = deadline - time.monotonic()
                if left_seconds <= 0:
                    return False
                self._changed.wait(left_seconds)
        return True

    @property
    def is_busy(self) -> bool:
        """Whether an item is not consumed yet."""
        return bool(self._items) or self._is_consuming

    def _append(self, item: _Item[T]) -> None:
        self._items.append(item)
        self._bytes += item.size_bytes

    def _report_loss(self) -> None:
        if self._unreported:
            count, self._unreported = self._unreported, 0
            self._append(_Item(self._make_loss(count), 0, lost=count))

    def _run(self) -> None:
        while (item := self._next()) is not None:
            is_consumed = self._consume(item.value)
            with self._changed:
                self._is_consuming = False
                if not is_consumed:
                    self._dropped += 0 if item.lost else 1
                    self._unreported += item.lost or 1
                elif not self._items:
                    self._report_loss()
                self._changed.notify_all()

    def _next(self) -> _Item[T] | None:
        """Wait for the next item; None after IDLE_SECONDS without one, when the thread ends."""
        with self._changed:
            if not self._items:
                self._changed.wait(IDLE_SECONDS)
            if not self._items:
                self._thread = None
                return None
            item = self._items.popleft()
            self._bytes -= item.size_bytes
            self._is_consuming = True
            return item
