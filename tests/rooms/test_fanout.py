"""Each member is offered each frame once, whatever fails or is cancelled on the way."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, assert_no_checkpoints

from broker.errors import CloseCode
from broker.model import Event
from broker.notices import Gap, Notice, RoomEvent, UserJoined
from broker.rooms.fanout import OFFERS_PER_CLOCK_READ, Fanout
from broker.rooms.frame import RoomFrame
from broker.rooms.presence.roster import Roster
from broker.rooms.tally import Tally
from broker.rooms.time_slice import TIME_SLICE_SECONDS, TimeSlice
from tests.support.logs import RecordingLog
from tests.support.members import NoticesCodec, Person, RecordingOutbox

if TYPE_CHECKING:
    from tests.rooms.conftest import NewPerson


class BrokenError(Exception):
    """The failure of an outbox here."""


def said(offset: int | None) -> RoomEvent:
    return RoomEvent("den", "e", Event(b"{}", 0, offset))


def roster_of(people: "list[Person]") -> Roster:
    roster = Roster()
    for person in people:
        roster.add(person)
    return roster


def failed(log: RecordingLog) -> int:
    """Return how many members' failures were logged; nothing else may be."""
    assert set(log.events) <= {"delivery failed"}
    return sum(cast("int", line.fields["members"]) for line in log.lines)


def new_fanout(tally: Tally | None = None, log: RecordingLog | None = None) -> Fanout:
    return Fanout("den", tally or Tally(), log or RecordingLog(), TimeSlice())


async def test_a_frame_is_encoded_once_for_each_codec_and_goes_to_all(new_person: "NewPerson") -> None:
    ann = new_person("ann")
    bob, cat = new_person("bob", ann.outbox.codec), new_person("cat")
    fanout = new_fanout()
    notices: list[Notice] = [said(1), said(2), UserJoined("den", "ann", 1)]
    fanout.queue(roster_of([ann, bob, cat]), notices)
    assert ann.heard == []
    await fanout.send_queued()
    assert ann.heard == bob.heard == cat.heard == notices
    assert (ann.outbox.codec.encoded, cat.outbox.codec.encoded) == (1, 1)


async def test_a_queued_frame_is_for_the_members_at_the_time_of_queueing(new_person: "NewPerson") -> None:
    ann, bob = new_person("ann"), new_person("bob")
    roster, fanout = roster_of([ann]), new_fanout()
    fanout.queue(roster, [said(1)])
    roster.discard(ann)
    roster.add(bob)
    await fanout.send_queued()
    assert (ann.offsets(), bob.offsets()) == ([1], [])


@given(
    people=st.integers(1, 6),
    codecs=st.integers(1, 3),
    frames=st.integers(1, 4),
    faults=st.sets(st.tuples(st.integers(0, 5), st.integers(0, 3))),
    finish_each=st.booleans(),
)
def test_only_those_fail_whose_outbox_does(
    new_person: "NewPerson",
    people: int,
    codecs: int,
    frames: int,
    faults: set[tuple[int, int]],
    finish_each: bool,
) -> None:
    """Person p raises at frame f for each (p, f) in `faults`."""
    shared = [new_person("").outbox.codec for _ in range(codecs)]
    everyone = [new_person(f"user {p}", shared[p % codecs]) for p in range(people)]
    for p, person in enumerate(everyone):
        person.outbox.faults = [BrokenError() if (p, f) in faults else None for f in range(frames)]
    failing = {
        p: min(f for q, f in faults if q == p and f < frames) for p, f in faults if p < people and f < frames
    }

    async def main() -> None:
        log = RecordingLog()
        fanout, roster = new_fanout(log=log), roster_of(everyone)
        for frame in range(frames):
            fanout.queue(roster, [said(frame + 1)])
            if finish_each:
                await fanout.send_queued()
        await fanout.send_queued()
        assert failed(log) == len(failing)

    trio.run(main)
    for p, person in enumerate(everyone):
        # After the frame that it may have missed it is offered nothing more: that would be a gap nobody tells of.
        assert person.offsets() == list(range(1, 1 + failing.get(p, frames)))
        expected = [(CloseCode.INTERNAL_ERROR, "delivery failed")] if p in failing else []
        assert person.disconnects == expected


async def test_those_whose_codec_fails_are_failed_alone(new_person: "NewPerson") -> None:
    class BrokenCodec(NoticesCodec):
        def encode(self, notices: Sequence[Notice]) -> bytes:
            if notices == [said(2)]:
                raise BrokenError
            return super().encode(notices)

    broken = BrokenCodec()
    ann, bob, cat = new_person("ann", broken), new_person("bob"), new_person("cat", broken)
    log = RecordingLog()
    fanout, roster = new_fanout(log=log), roster_of([ann, bob, cat])
    for offset in (1, 2, 3):
        fanout.queue(roster, [said(offset)])
    await fanout.send_queued()
    assert bob.offsets() == [1, 2, 3]
    assert bob.disconnects == []
    for person in (ann, cat):
        # Not even what was begun before: they come back with what they had seen until then.
        assert person.offsets() == []
        assert person.disconnects == [(CloseCode.INTERNAL_ERROR, "delivery failed")]
    assert failed(log) == 2


class SlowOutbox(RecordingOutbox):
    """One look's worth of offers takes a turn."""

    def __init__(self, codec: NoticesCodec, clock: MockClock) -> None:
        super().__init__(codec)
        self._clock = clock

    def offer(self, frame: RoomFrame) -> bool:
        self._clock.jump(1.01 * TIME_SLICE_SECONDS / OFFERS_PER_CLOCK_READ)
        return super().offer(frame)


def slow_people(new_person: "NewPerson", clock: MockClock, count: int) -> "list[Person]":
    codec = new_person("").outbox.codec
    people = [new_person(f"user {number}", codec) for number in range(count)]
    for person in people:
        person.outbox = SlowOutbox(codec, clock)
    return people


@pytest.mark.parametrize("checkpoint", [0, 1, 2, 3])
async def test_a_fanout_cancelled_at_any_checkpoint_goes_on_where_it_was(
    new_person: "NewPerson", mock_clock: MockClock, checkpoint: int
) -> None:
    everyone = slow_people(new_person, mock_clock, 4 * OFFERS_PER_CLOCK_READ)
    fanout, roster = new_fanout(), roster_of(everyone)
    fanout.queue(roster, [said(1)])
    fanout.queue(roster, [said(2)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fanout.send_queued)
        for _ in range(checkpoint):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    heard = sum(len(person.heard) for person in everyone)
    assert heard < 2 * len(everyone) or checkpoint > 3
    await fanout.send_queued()
    assert all(person.offsets() == [1, 2] for person in everyone)


async def test_others_get_their_turn_during_a_large_fanout(
    new_person: "NewPerson", mock_clock: MockClock
) -> None:
    everyone = slow_people(new_person, mock_clock, OFFERS_PER_CLOCK_READ // 2)
    fanout, roster = new_fanout(), roster_of(everyone)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        for offset in range(1, 21):
            fanout.queue(roster, [said(offset)])
            await fanout.send_queued()
        nursery.cancel_scope.cancel()
    # Twenty frames of half a turn each: also many small fan-outs must not keep the others waiting.
    assert 8 <= turns <= 12


async def test_quick_writes_do_not_give_way_to_others_without_need(
    new_person: "NewPerson", mock_clock: MockClock
) -> None:
    codec = new_person("").outbox.codec
    fanout, roster = new_fanout(), roster_of([new_person(f"user {number}", codec) for number in range(1000)])
    fanout.queue(roster, [said(1)])
    await fanout.send_queued()  # also the first look after a while gives way
    fanout.queue(roster, [said(2)])
    with assert_no_checkpoints():
        await fanout.send_queued()


async def test_a_frame_that_is_not_taken_is_counted_and_its_offsets_are_told(new_person: "NewPerson") -> None:
    ann, bob = new_person("ann"), new_person("bob")
    ann.outbox.is_full = True
    tally = Tally()
    fanout, roster = new_fanout(tally), roster_of([ann, bob])
    frames: list[list[Notice]] = [
        [said(3), said(None), said(4)],
        [UserJoined("den", "cat", 3)],
        [said(None)],
        [Gap("den", 5, 7), said(8)],
        [Gap("den", 9, 11)],
    ]
    for notices in frames:
        fanout.queue(roster, notices)
        await fanout.send_queued()
    assert ann.heard == []
    assert ann.outbox.losses == [
        ("den", (3, 4)),
        ("den", None),
        ("den", None),
        ("den", (5, 8)),
        ("den", (9, 11)),
    ]
    assert (bob.offsets(), bob.outbox.losses) == ([3, None, 4, None, 8], [])
    assert tally == Tally(deliveries=16, deliveries_lost=8)
