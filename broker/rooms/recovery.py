"""What those who have fallen behind are still to hear. Pure."""

from collections.abc import Iterable

from broker.engine.base import Run
from broker.model import Position
from broker.notices import Gap, Notice, Said


def missed_notices(room: str, told: Position, run: Run, own: Iterable[Said]) -> list[Notice]:
    """Return all that is known after `told` up to the position of `run`, in order, with a Gap for each hole.

    `own` are events that the engine may have trimmed already. In an epoch other than that of `told`, all is new.
    """
    epoch = run.position.epoch
    known = {said.event.offset: said.event for said in own if said.epoch == epoch}
    known.update((event.offset, event) for event in run.events)
    notices: list[Notice] = []
    expected = 1 + (told.offset if told.epoch == epoch else 0)
    for offset in sorted(offset for offset in known if offset is not None and offset >= expected):
        if offset > expected:
            notices.append(Gap(room, expected, offset - 1))
        notices.append(Said(room, epoch, known[offset]))
        expected = offset + 1
    if expected <= run.position.offset:
        notices.append(Gap(room, expected, run.position.offset))
    return notices
