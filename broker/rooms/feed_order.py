"""Which of the events that a feed brings are told next. Pure."""

from collections.abc import Sequence

import attrs

from broker.model import Event, Position
from broker.rooms.messages import FeedEvents


@attrs.frozen
class DeliverableEvents:
    """Arrivals, seen from where a room has been told."""

    events: list[Event]
    """What follows what was told, in order."""
    position: Position
    """Where the room has been told once these are."""
    rest: Sequence[FeedEvents]
    """What does not follow: something before it is missing, or it is of another epoch."""


def order_feed_events(told: Position, arrivals: Sequence[FeedEvents]) -> DeliverableEvents:
    """Split arrivals into what can be told after `told` and what cannot; what was told before is dropped."""
    epoch, offset = told.epoch, told.offset
    events: list[Event] = []
    for index, arrived in enumerate(arrivals):
        first = next((event.offset for event in arrived.events if event.offset is not None), None)
        if arrived.epoch != epoch or (first is not None and first > offset + 1):
            return DeliverableEvents(events, Position(epoch, offset), arrivals[index:])
        for event in arrived.events:
            if event.offset is None:
                events.append(event)
            elif event.offset > offset:
                events.append(event)
                offset = event.offset
    return DeliverableEvents(events, Position(epoch, offset), ())
