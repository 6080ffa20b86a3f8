"""An event that can be waited for again and again."""

import trio


class Wakeup:
    """Wakes the tasks that wait for work, any number of times.

    As a `trio.Event`, but spent by the wait that it ends. Sets that no task has waited for yet count as one.
    """

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        """Wake all tasks that wait; if none does, the next `wait` does not block."""
        self._event.set()

    def clear(self) -> None:
        """Take back a `set` that no task has waited for; tasks that wait go on waiting."""
        if self._event.is_set():
            self._event = trio.Event()

    async def wait(self) -> None:
        """Wait for the next `set`, or for one that no task has waited for. If cancelled, it is not spent."""
        event = self._event
        await event.wait()
        # Another task that this `set` woke may have been here first; a newer `set` must not be lost.
        if self._event is event:
            self._event = trio.Event()
