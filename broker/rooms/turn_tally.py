"""Counts the turns of a node's rooms with code, for metrics."""

from collections import Counter
from enum import StrEnum

import attrs

from broker.histograms import DelayHistogram


class TurnKind(StrEnum):
    """The purpose of a turn."""

    JOIN = "join"
    MESSAGE = "message"
    CALL = "call"
    LEAVE = "leave"
    TIMER = "timer"
    TASK = "task"
    CLOSE = "close"


class TurnOutcome(StrEnum):
    """How a turn ended."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    """The code raised or took too long, or its state cannot be stored."""
    UNAVAILABLE = "unavailable"
    """The engine could not be read."""


@attrs.define
class TurnTally:
    """Counts over all rooms of a node since its start."""

    outcomes: Counter[tuple[TurnKind, TurnOutcome]] = attrs.Factory(Counter)
    durations: DelayHistogram = attrs.field(factory=DelayHistogram, eq=False)
    """Time of turns, without their storing."""

    def note(self, kind: TurnKind, outcome: TurnOutcome, seconds: float) -> None:
        """Count a turn."""
        self.outcomes[kind, outcome] += 1
        self.durations.note(seconds, 1)
