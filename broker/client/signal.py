"""A signal that wakes the tasks that wait for a change."""

import anyio


class Signal:
    """Wakes all tasks that wait, any number of times; each looks again for what it waits for.

    A `set` that no task waits for has no effect.
    """

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    def set(self) -> None:
        """Wake all tasks that wait."""
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self) -> None:
        """Wait for the next `set`."""
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()
