"""The two states of an outbox, all their transitions, and what each state does with a frame. Pure.

Whatever decides about a frame is here. Tables hold only steps that can happen: another one is a KeyError, a fault.
"""

from collections.abc import Mapping
from enum import Enum


class Fate(Enum):
    """What becomes of a frame."""

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
    """What changes the intake."""

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
    """What the queue waits for. `with_frame` and `with_bulk` are the states once another frame is queued.

    They are attributes because a lookup by an Enum member costs more than all else that `Outbox.offer` does. Where
    they differ from the state itself, a flush is to be scheduled; a flush ends in NOTHING or in WRITER.
    """

    NOTHING = "nothing: the queue is empty"
    BULK_FLUSH = "the flusher, among bulk"
    FLUSH = "the flusher"
    WRITER = "the writer task: the kernel's buffer is full"

    with_frame: "Awaited"
    with_bulk: "Awaited"


Awaited.NOTHING.with_frame, Awaited.NOTHING.with_bulk = Awaited.FLUSH, Awaited.BULK_FLUSH
# A frame that is no bulk must not wait where bulk does.
Awaited.BULK_FLUSH.with_frame, Awaited.BULK_FLUSH.with_bulk = Awaited.FLUSH, Awaited.BULK_FLUSH
Awaited.FLUSH.with_frame = Awaited.FLUSH.with_bulk = Awaited.FLUSH
Awaited.WRITER.with_frame = Awaited.WRITER.with_bulk = Awaited.WRITER
