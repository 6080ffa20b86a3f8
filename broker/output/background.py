"""Work that may block, such as writing to a pipe that nobody reads, done by a thread of its own in bounded memory."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import attrs

T = TypeVar("T")

LIMIT_BYTES = 1 << 20

FLUSH_SECONDS = 1.0
"""How long the end of a program waits for what has not been written yet."""

IDLE_SECONDS = 10.0
"""After so long without work the thread ends; the next item starts another."""


@attrs.frozen
class _Item(Generic[T]):
    value: T
    size_bytes: int
    lost: int = 0
    """How many dropped items it tells of; 0 for an ordinary one."""


class BackgroundQueue(Generic[T]):
    """Hands items to `consume` in order, in a daemon thread; `put_nowait` never waits for it.

    Past `limit_bytes` items are dropped and counted, and so is what `consume` could not take. The next item that fits
    comes behind `make_loss(count)`, which tells of those dropped; so does the end of the queue. May be used from any
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
        self._untold = 0
        self._dropped = 0
        self._thread: threading.Thread | None = None

    @property
    def dropped(self) -> int:
        """How many items were dropped since the beginning."""
        return self._dropped

    def put_nowait(self, value: T, size_bytes: int) -> None:
        """Take an item, or drop it; one larger than the limit is taken when nothing waits."""
        with self._changed:
            if self._items and self._bytes + size_bytes > self._limit_bytes:
                self._dropped += 1
                self._untold += 1
                return
            self._tell_loss()
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
        """Whether something is not consumed yet."""
        return bool(self._items) or self._is_consuming

    def _append(self, item: _Item[T]) -> None:
        self._items.append(item)
        self._bytes += item.size_bytes

    def _tell_loss(self) -> None:
        if self._untold:
            count, self._untold = self._untold, 0
            self._append(_Item(self._make_loss(count), 0, lost=count))

    def _run(self) -> None:
        while (item := self._next()) is not None:
            is_consumed = self._consume(item.value)
            with self._changed:
                self._is_consuming = False
                if not is_consumed:
                    self._dropped += 0 if item.lost else 1
                    self._untold += item.lost or 1
                elif not self._items:
                    self._tell_loss()
                self._changed.notify_all()

    def _next(self) -> _Item[T] | None:
        """Wait for the next item; None when nothing came for so long that the thread is to end."""
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
