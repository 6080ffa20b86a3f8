"""The order of delivery for events from the feed. Pure."""

from collections.abc import Sequence

import msgspec

from broker.model import Event, Position
from broker.rooms.messages import FeedEvents


class DeliverableEvents(msgspec.Struct, frozen=True):
    """Events of the feed, split at the first gap behind the room's delivered position."""

    events: list[Event]
    """The events to deliver next, in order."""
    position: Position
    """The delivered position after these."""
    rest: Sequence[FeedEvents]
    """Batches that cannot be delivered yet: events before them are missing, or they are of another epoch."""


def order_feed_events(delivered: Position, batches: Sequence[FeedEvents]) -> DeliverableEvents:
    """Split batches at the first gap behind `delivered`; events up to `delivered` are dropped."""
    epoch, offset = delivered.epoch, delivered.offset
    events: list[Event] = []
    for index, batch in enumerate(batches):
        first = next((event.offset for event in batch.events if event.offset is not None), None)
        if batch.epoch != epoch or (first is not None and first > offset + 1):
            return DeliverableEvents(events, Position(epoch, offset), batches[index:])
        for event in batch.events:
            if event.offset is None:
                events.append(event)
            elif event.offset > offset:
                events.append(event)
                offset = event.offset
    return DeliverableEvents(events, Position(epoch, offset), ())
