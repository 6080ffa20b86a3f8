"""A fan-out that is a span of each traced event: from its queue until every outbox of this node has it."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from broker.notices import Notice, RoomEvent
from broker.rooms.fanout import Fanout
from broker.rooms.presence.roster import Roster
from broker.traces.tracer import Span, Tracer


class TracedFanout(Fanout):
    """See Fanout."""

    def __init__(self, tracer: Tracer, room: str, *args: Any, **kwargs: Any) -> None:
        """All but `tracer` is as for Fanout."""
        super().__init__(room, *args, **kwargs)
        self._tracer = tracer
        self._name = room

    def queue(self, roster: Roster, notices: Sequence[Notice]) -> None:
        """See Fanout."""
        spans = self._start(roster, notices)
        super().queue(roster, notices)
        if spans:
            self.call_when_sent(partial(_end_all, spans))

    def send_nowait(self, roster: Roster, notices: Sequence[RoomEvent]) -> None:
        """See Fanout."""
        spans = self._start(roster, notices)
        super().send_nowait(roster, notices)
        _end_all(spans)

    def _start(self, roster: Roster, notices: Sequence[Notice]) -> list[Span]:
        return [
            self._tracer.start(
                "fan-out",
                parent=notice.event.header.traceparent,
                attributes={"greenroom.room": self._name, "greenroom.members": len(roster)},
            )
            for notice in notices
            if isinstance(notice, RoomEvent) and notice.event.header.traceparent is not None
        ]


def _end_all(spans: Sequence[Span]) -> int:
    for span in spans:
        span.end()
    return 0
