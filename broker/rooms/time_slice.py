"""Divides the scheduler's time between fan-outs and all other tasks."""

import trio

TIME_SLICE_SECONDS = 0.001
"""Time after which other tasks run."""


class TimeSlice:
    """The time that those who share it may take together, until all other tasks have run."""

    def __init__(self) -> None:
        self._ends_at = 0.0  # trio time; long past after a pause
        self._lock = trio.Lock()

    def is_over(self) -> bool:
        """Whether `wait_next` is due."""
        return trio.current_time() >= self._ends_at

    async def wait_next(self) -> None:
        """Let other tasks run, and begin the next slice; of those who wait, first come, first served."""
        # The lock is handed to the next in line, which runs in the next turn of the scheduler: one slice for each turn.
        async with self._lock:
            self._ends_at = trio.current_time() + TIME_SLICE_SECONDS
