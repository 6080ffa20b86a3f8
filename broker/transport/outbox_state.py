"""The two states of an outbox, all their transitions, and what each state does with a frame. Pure.

Whatever decides about a frame is here. Tables hold only steps that can happen: another one is a KeyError, a fault.
"""

from collections.abc import Mapping
from enum import Enum


class Fate(Enum):
    """The fate of a frame that is offered."""

    QUEUED = "queued"
    """If it is within its limit; otherwise refused (events), or the connection is given up (replies)."""
    REFUSED = "refused"
    DISCARDED = "discarded"
    """Nothing is written any more, or nothing of this kind: the connection is ending."""


class Intake(Enum):
    """Which frames are still taken. A write is the close frame, or of trio-websocket."""

    OPEN = ("open", Fate.QUEUED, Fate.QUEUED, Fate.QUEUED)
    DROPPING = ("dropping", Fate.REFUSED, Fate.QUEUED, Fate.QUEUED)
    """Policy "drop": events are refused until half of the limit is free, and then a gap is sent."""
    GIVEN_UP = ("given up", Fate.DISCARDED, Fate.DISCARDED, Fate.QUEUED)
    """The peer reads too slowly. No later frame may follow the first one refused: it would hide the gap."""
    ENDING = ("ending", Fate.DISCARDED, Fate.DISCARDED, Fate.REFUSED)
    """The close frame is queued, which nothing may follow (RFC 6455 section 5.5.1)."""
    CLOSED = ("closed", Fate.DISCARDED, Fate.DISCARDED, Fate.REFUSED)
    """Nothing is written any more."""

    def __init__(self, label: str, events: Fate, replies: Fate, writes: Fate) -> None:
        self.label = label
        self.events = events
        self.replies = replies
        """Also of control frames."""
        self.writes = writes


class Step(Enum):
    """An event that changes the intake."""

    DROP = "an event was refused, and its offsets belong to a gap"
    CATCH_UP = "half of the limit is free again"
    GIVE_UP = "an event was refused, or replies exceed twice the limit"
    END = "the close frame was queued"
    CLOSE = "the connection has ended"


NEXT_INTAKE: Mapping[Intake, Mapping[Step, Intake]] = {
    Intake.OPEN: {
        Step.DROP: Intake.DROPPING,
        Step.GIVE_UP: Intake.GIVEN_UP,
        Step.END: Intake.ENDING,
        Step.CLOSE: Intake.CLOSED,
    },
    Intake.DROPPING: {
        Step.DROP: Intake.DROPPING,
        Step.CATCH_UP: Intake.OPEN,
        Step.GIVE_UP: Intake.GIVEN_UP,
        Step.END: Intake.ENDING,
        Step.CLOSE: Intake.CLOSED,
    },
    Intake.GIVEN_UP: {Step.END: Intake.ENDING, Step.CLOSE: Intake.CLOSED},
    Intake.ENDING: {Step.CLOSE: Intake.CLOSED},
    Intake.CLOSED: {Step.CLOSE: Intake.CLOSED},
}


class Awaited(Enum):
    """The writer that the queue waits for. A frame that is queued with NOTHING awaited is scheduled with the flusher.

    A flush ends in NOTHING or in WRITER, and so does a write that was tried at once.
    """

    NOTHING = "nothing: the queue is empty"
    FLUSH = "the flusher"
    WRITER = "the writer task: the kernel's buffer is full"
