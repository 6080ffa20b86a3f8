"""Each delivery ends in one counted outcome: written, dropped, gone or filtered; the books balance whatever fails."""

import json
from typing import Any, TypeAlias, cast

import attrs
import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from broker.errors import CloseCode
from broker.model import Event, EventHeader, Excluded, TagFilter
from broker.notices import Notice, Pong, RoomEvent, UserJoined
from broker.rooms.fanout import BULK_MEMBERS, Fanout
from broker.rooms.frame import SlowReader
from broker.rooms.presence.roster import Roster
from broker.rooms.tally import Tally
from broker.rooms.time_slice import TimeSlice
from broker.sessions.backlog import Backlog
from broker.transport.frames import close_frame
from broker.transport.outbox import Outbox
from tests.support.logs import RecordingLog
from tests.support.members import NoticesCodec, Person, RecordingOutbox
from tests.transport.test_outbox_model import messages_in
from tests.transport.wires import FakeWire, open_outbox

POLICIES: list[SlowReader] = ["disconnect", "drop", "latest"]
GOALS = TagFilter.of({"kind": ["goal"]})


@attrs.define(eq=False)
class Guest:
    """A member with the outbox of a connection."""

    person: Person
    wire: FakeWire
    outbox: Outbox
    ended: list[CloseCode]
    wanted: TagFilter | None

    def written(self) -> int:
        """Return how many deliveries the wire has taken whole; gaps and answers are none."""
        messages = messages_in(bytes(self.wire.handed[: self.wire.finished_bytes]))[0]
        return sum(message["type"] not in {"gap", "pong"} for message in messages)


@attrs.define
class World:
    """A room with guests who read slowly, break off and are thrown out."""

    nursery: trio.Nursery
    policy: SlowReader
    tally: Tally = attrs.Factory(Tally)
    roster: Roster = attrs.Factory(Roster)
    backlog: Backlog = attrs.Factory(Backlog)
    guests: list[Guest] = attrs.Factory(list)
    offset: int = 0
    expected: int = 0
    """Events times members."""
    filtered: int = 0
    told: int = 0
    """Presence notices times members."""
    fanout: Fanout = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.fanout = self.open_fanout()

    def open_fanout(self) -> Fanout:
        return Fanout("den", self.tally, RecordingLog(), TimeSlice(), self.policy)

    def join(self, credit: int, *, wants_goals: bool) -> None:
        wire = FakeWire(credit)
        outbox, ended = open_outbox(
            wire, 1500, self.nursery.start_soon, tally=self.tally, backlog=self.backlog
        )
        number = len(self.guests)
        person = Person(f"u{number % 3}", outbox=cast("RecordingOutbox", outbox))
        guest = Guest(person, wire, outbox, ended, GOALS if wants_goals else None)
        self.guests.append(guest)
        self.roster.add(person)
        if wants_goals:
            self.roster.choose(person, GOALS)

    def event(self, kind: str, key: str, pad: int, *, is_stored: bool, is_excluding: bool) -> RoomEvent:
        self.offset += is_stored
        excluded = Excluded(None, "u0") if is_excluding else None
        header = EventHeader("x", key, "ann", tags=(("kind", kind),), excluded=excluded)
        content = json.dumps({"type": "x", "pad": "p" * pad}).encode()
        event = Event(content, 0, self.offset if is_stored else None, header)
        members = [guest for guest in self.guests if guest.person in self.roster]
        self.expected += len(members)
        for guest in members:
            is_out = is_excluding and guest.person.user_id == "u0"
            self.filtered += is_out or (guest.wanted is not None and kind != "goal")
        return RoomEvent("den", "e", event)

    async def say(self, notice: Notice, *, is_at_once: bool) -> None:
        if is_at_once and isinstance(notice, RoomEvent):
            self.fanout.send_nowait(self.roster, [notice])
        else:
            self.fanout.queue(self.roster, [notice])
            await self.fanout.send_queued()

    def throw_out(self, guest: Guest) -> None:
        """End a connection as its owner does, with a close frame that it may have no time for."""
        self.roster.discard(guest.person)
        if CloseCode.TOO_SLOW in guest.ended:
            guest.outbox.drop_unsent()
        guest.outbox.put_last(close_frame(CloseCode.TOO_SLOW, ""))

    def check(self) -> None:
        tally = self.tally
        assert tally.filtered == self.filtered
        assert tally.waiting >= 0
        assert tally.deliveries >= self.expected - self.filtered + self.told
        assert tally.deliveries == tally.read_written() + tally.deliveries_lost + tally.gone + tally.waiting


Step: TypeAlias = tuple[str, int, Any]

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["say"] * 8 + ["join", "join", "leave", "give", "give", "settle", "settle"]
            + ["break", "close", "relieve", "throw out", "presence", "reply", "withheld", "give up room"]
        ),
        st.integers(0, 5),
        st.tuples(
            st.sampled_from(["goal", "card"]),
            st.sampled_from("kl"),
            st.integers(0, 300),
            st.booleans(),
            st.booleans(),
            st.booleans(),
        ),
    ),
    max_size=50,
)  # fmt: skip


async def play(policy: SlowReader, steps: list[Step]) -> None:  # noqa: C901  # one case for each step
    async with trio.open_nursery() as nursery:
        world = World(nursery, policy)
        world.join(1000, wants_goals=False)
        world.join(0, wants_goals=True)
        for name, at, (kind, key, pad, is_stored, is_excluding, is_at_once) in steps:
            guest = world.guests[at % len(world.guests)]
            match name:
                case "say":
                    event = world.event(kind, key, pad, is_stored=is_stored, is_excluding=is_excluding)
                    await world.say(event, is_at_once=is_at_once)
                case "presence":
                    world.told += len(world.roster)
                    await world.say(UserJoined("den", "ann", 1), is_at_once=False)
                case "join":
                    world.join(3 * pad, wants_goals=is_stored)
                case "leave":
                    world.roster.discard(guest.person)
                case "give":
                    guest.wire.give(3 * pad)
                case "settle":
                    await wait_all_tasks_blocked()
                case "break":
                    guest.wire.break_down()
                case "close":
                    # With its connection, the write on its way is cut off.
                    guest.outbox.close()
                    guest.wire.break_down()
                case "relieve" if guest.outbox.is_blocked:
                    guest.outbox.relieve()
                case "throw out":
                    world.throw_out(guest)
                case "reply":
                    guest.outbox.reply(Pong("x"))
                case "withheld":
                    world.fanout.queue_withheld(world.roster)
                    await world.fanout.send_queued()
                case "give up room":
                    # Its queue is lost with it.
                    event = world.event(kind, key, pad, is_stored=True, is_excluding=False)
                    world.fanout.queue(world.roster, [event])
                    world.fanout.abandon()
                    world.fanout = world.open_fanout()
            world.check()
        for guest in world.guests:
            guest.wire.give(1 << 30)
        await wait_all_tasks_blocked()
        world.check()
        # What the books say is what the wires have.
        assert world.tally.read_written() == sum(guest.written() for guest in world.guests)
        assert world.tally.waiting == 0
        for guest in world.guests:
            guest.outbox.close()
        world.check()
        nursery.cancel_scope.cancel()
    assert world.tally.waiting == 0


@given(st.sampled_from(POLICIES), STEPS)
@settings(max_examples=100, phases=[Phase.explicit, Phase.generate])
def test_the_books_balance_under_faults(policy: SlowReader, steps: list[Step]) -> None:
    trio.run(play, policy, steps)


async def test_a_large_room_counts_what_is_queued_and_what_it_has_sent(autojump_clock: object) -> None:
    tally, roster = Tally(), Roster()
    codec = NoticesCodec()
    people = [Person(f"u{number}", codec) for number in range(3 * BULK_MEMBERS)]
    for person in people:
        roster.add(person)
    roster.choose(people[0], GOALS)
    people[1].outbox.faults = [ZeroDivisionError()]
    people[2].outbox.is_full = True
    fanout = Fanout("den", tally, RecordingLog(), TimeSlice())
    for offset in range(1, 4):
        fanout.queue(roster, [RoomEvent("den", "e", Event(b"{}", 0, offset, EventHeader("x")))])
    assert (tally.deliveries, tally.filtered) == (0, 3)
    await fanout.send_queued()
    assert tally.waiting == 0
    assert tally.gone == tally.deliveries_lost == 3
    assert tally.read_written() == sum(len(person.heard) for person in people) == 3 * (len(people) - 3)
    fanout.queue(roster, [RoomEvent("den", "e", Event(b"{}", 0, 4, EventHeader("x")))])
    before = tally.gone
    fanout.abandon()
    assert tally.gone == before + len(people) - 1
    assert not fanout.is_pending
    assert tally.waiting == 0
    assert tally.deliveries == tally.read_written() + tally.deliveries_lost + tally.gone


def test_what_was_once_called_written_is_never_taken_back() -> None:
    tally = Tally(deliveries=5)
    assert tally.read_written() == 5
    tally.gone = 2
    assert tally.read_written() == 5
    tally.deliveries = 9
    assert tally.read_written() == 7
