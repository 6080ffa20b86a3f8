"""The span of a fan-out ends when every outbox has the event."""

from typing import TYPE_CHECKING

import pytest

from broker.model import Event, EventHeader
from broker.notices import RoomEvent, UserJoined
from broker.rooms.fanout import BULK_MEMBERS
from broker.rooms.tally import Tally
from broker.rooms.time_slice import TimeSlice
from broker.rooms.traced_fanout import TracedFanout
from tests.rooms.test_fanout import roster_of, said
from tests.support.logs import RecordingLog

pytest.importorskip("opentelemetry.sdk", reason="the extra traces is not installed")

from broker.traces.otel import OtelTracer
from tests.server.test_traces import CALLER, TRACE, Spans, trace_of

if TYPE_CHECKING:
    from tests.rooms.conftest import NewPerson


def traced(offset: int) -> RoomEvent:
    return RoomEvent("den", "e", Event(b"{}", 0, offset, EventHeader("note", traceparent=CALLER)))


@pytest.mark.parametrize("members", [0, 1, BULK_MEMBERS + 1])
async def test_it_ends_when_all_is_sent(new_person: "NewPerson", members: int) -> None:
    spans = Spans()
    fanout = TracedFanout(OtelTracer(spans.provider), "den", Tally(), RecordingLog(), TimeSlice())
    people = [new_person(f"u{number}") for number in range(members)]
    fanout.queue(roster_of(people), [traced(1), said(2), UserJoined("den", "ann", 1), traced(3)])
    if members:
        assert spans.all() == []
    await fanout.send_queued()
    assert [trace_of(span) for span in spans.all()] == [TRACE, TRACE]
    assert {span.attributes["greenroom.members"] for span in spans.all()} == {members}
    for person in people:
        assert person.offsets() == [1, 2, 3]


async def test_what_is_sent_at_once_ends_at_once(new_person: "NewPerson") -> None:
    spans = Spans()
    fanout = TracedFanout(OtelTracer(spans.provider), "den", Tally(), RecordingLog(), TimeSlice())
    fanout.send_nowait(roster_of([new_person("ann")]), (traced(1),))
    fanout.send_nowait(roster_of([new_person("ann")]), (said(2),))
    assert [span.name for span in spans.all()] == ["fan-out"]
