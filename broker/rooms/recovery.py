"""Notices for members that have missed events, in pages that a client can read. Pure."""

from collections.abc import Iterable, Sequence
from itertools import accumulate

import msgspec

from broker.engine.base import Run
from broker.model import Event, Position
from broker.notices import Gap, Joined, Notice, RoomEvent, Withheld

EVENT_BYTES = 192
"""Most bytes of a delivered event besides its content and its room's name."""


def count_fitting(room: str, events: Sequence[Event | Withheld], most_bytes: int) -> int:
    """Return how many of `events`, from the first on, fit into one message of `most_bytes`; at least one."""
    # A character of a room's name takes four bytes at most, as UTF-8 or escaped.
    overhead = EVENT_BYTES + 4 * len(room)
    sizes = accumulate(overhead + (len(event.content) if isinstance(event, Event) else 0) for event in events)
    return max(1, sum(1 for size in sizes if size <= most_bytes))


def joined_in_pages(joined: Joined, page_bytes: int) -> list[Notice]:
    """Return the answer to a join as a message of at most about `page_bytes`, followed by the rest of its events.

    Common clients lose their connection over a message of more than 1 MiB. The first page is a `joined` whose
    position is that of its last event, so the next events follow it: a client sees no difference from a join that was
    answered a moment earlier.
    """
    if not joined.events:
        return [joined]
    fitting = count_fitting(joined.room, joined.events, page_bytes)
    page, rest = joined.events[:fitting], joined.events[fitting:]
    if not rest:
        return [joined]
    epoch, last = joined.position.epoch, page[-1].offset
    assert last is not None, "only stored events can be missed"
    first = msgspec.structs.replace(joined, events=page, position=Position(epoch, last))
    return [
        first,
        *(RoomEvent(joined.room, epoch, event) if isinstance(event, Event) else event for event in rest),
    ]


def missed_notices(room: str, delivered: Position, run: Run, own: Iterable[RoomEvent]) -> list[Notice]:
    """Return all known events after `delivered` up to the position of `run`, in order, with a Gap for each hole.

    `own` are events that the engine may have trimmed already. If the epoch of `run` is another, all its events are new.
    """
    epoch = run.position.epoch
    known = {notice.event.offset: notice.event for notice in own if notice.epoch == epoch}
    known.update((event.offset, event) for event in run.events)
    notices: list[Notice] = []
    expected = 1 + (delivered.offset if delivered.epoch == epoch else 0)
    for offset in sorted(offset for offset in known if offset is not None and offset >= expected):
        if offset > expected:
            notices.append(Gap(room, expected, offset - 1))
        notices.append(RoomEvent(room, epoch, known[offset]))
        expected = offset + 1
    if expected <= run.position.offset:
        notices.append(Gap(room, expected, run.position.offset))
    return notices
