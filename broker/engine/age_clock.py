"""The two clocks of an engine: the wall clock for the time of events, and an age clock for ages and windows.

The `time` of an event is the wall clock's. But a wall clock is set now and then: with ages measured by it, a step
forward would delete all history, and after a step back a repeated id would be acknowledged and not stored until the
clock had caught up. So ages and windows use the age clock: it starts as the wall clock, follows the boot clock, and
ignores steps. The skew is how far the wall clock is ahead of it; it changes only with a step.

Stored data outlives the process, so a durable engine stores how its age clock relates to the other two. Within one
boot of the machine the next process continues exactly; after another boot downtime cannot be told from a step, so the
wall clock decides, but the age clock never goes back.
"""

import attrs

from broker.clocks import Clock
from broker.log import Log
from broker.model import WallClock

STEP_SECONDS = 1.0
"""Smallest difference that counts as a step: two clocks are not read at the same moment, and none is exact."""


@attrs.frozen
class ClockNote:
    """The relation of an age clock to the boot clock of one boot, and to the wall clock; in milliseconds."""

    boot: str
    ahead_of_boot_ms: int
    skew_ms: int
    """How far the wall clock was ahead of it."""


@attrs.frozen
class Moment:
    """One moment on the age clock and on the wall clock; Unix milliseconds."""

    age_ms: int
    time_ms: int


def resume_ms(note: ClockNote | None, *, boot: str, latest_ms: int, boot_ms: int, wall_ms: int) -> int:
    """Return the present time of the age clock, in a process that continues from another one's `note`.

    `latest_ms` is the latest time that the age clock is known to have shown.
    """
    if note is None:
        return wall_ms
    now_ms = boot_ms + note.ahead_of_boot_ms if note.boot == boot else wall_ms - note.skew_ms
    return max(now_ms, latest_ms)


class EngineClock:
    """Both clocks. Without a boot clock, as in a test with a single clock, the age clock is the wall clock."""

    def __init__(
        self,
        wall_clock: WallClock,
        log: Log,
        *,
        boot_clock: Clock | None = None,
        boot: str = "",
        note: ClockNote | None = None,
        latest_ms: int = 0,
    ) -> None:
        self._wall_clock = wall_clock
        self._boot_clock = boot_clock or wall_clock
        self._boot = boot
        self._log = log
        boot_seconds, wall_seconds = self._boot_clock(), wall_clock()
        boot_ms, wall_ms = int(boot_seconds * 1000), int(wall_seconds * 1000)
        age_ms = resume_ms(note, boot=boot, latest_ms=latest_ms, boot_ms=boot_ms, wall_ms=wall_ms)
        is_wall = age_ms == wall_ms
        self._ahead_of_boot = wall_seconds - boot_seconds if is_wall else age_ms / 1000 - boot_seconds
        self._skew_ms = 0
        if not is_wall:
            # A change of less than a step keeps the skew of before.
            before_ms = 0 if note is None else note.skew_ms
            is_same = abs(wall_ms - age_ms - before_ms) < STEP_SECONDS * 1000
            self._skew_ms = before_ms if is_same else wall_ms - age_ms

    def age(self) -> float:
        """Return the age clock's seconds; they never go back."""
        return self._boot_clock() + self._ahead_of_boot

    def time_ms(self, age: float) -> int:
        """Return the wall clock's time, in Unix milliseconds, of the moment at which `age` was read."""
        skew_seconds = self._wall_clock() - age
        if not -STEP_SECONDS < skew_seconds - self._skew_ms / 1000 < STEP_SECONDS:
            self._note_step(skew_seconds)
        return int(age * 1000) + self._skew_ms

    def moment(self) -> Moment:
        """Return the present moment."""
        age = self.age()
        return Moment(int(age * 1000), self.time_ms(age))

    def note(self) -> ClockNote:
        """Return the note to store for the next process."""
        return ClockNote(self._boot, round(self._ahead_of_boot * 1000), self._skew_ms)

    def _note_step(self, skew_seconds: float) -> None:
        step_seconds = skew_seconds - self._skew_ms / 1000
        self._skew_ms = round(skew_seconds * 1000)
        self._log.warning("wall clock was set", step_seconds=round(step_seconds, 3))
