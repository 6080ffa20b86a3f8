"""A filter and an exclusion keep events from members, who see no hole: each gets the others once and in order."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from actors import ActorError, Reply
from broker.model import Draft, Event, EventHeader, Excluded, Position, Shown, TagFilter
from broker.notices import Gap, Joined, Notice, RoomEvent, Withheld
from broker.rooms.choice import Audience, Choice, choose_stored, divide
from broker.rooms.directory import retention_for
from broker.rooms.fanout import BULK_MEMBERS, Fanout
from broker.rooms.frame import RoomFrame
from broker.rooms.messages import Join, Publish, SendHistory
from broker.rooms.presence.roster import Roster
from broker.rooms.room import WITHHELD_SECONDS
from broker.rooms.tally import Tally
from broker.rooms.time_slice import TimeSlice
from tests.support.logs import RecordingLog
from tests.support.members import NoticesCodec, Person, RecordingOutbox

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.rooms.conftest import OpenStage, Stage

GOALS, GOALS_OR_CARDS = TagFilter.of({"kind": ["goal"]}), TagFilter.of({"kind": ["goal", "card"]})
HOME_GOALS = TagFilter.of({"kind": ["goal"], "team": ["home"]})
FILTERS = (None, GOALS, GOALS_OR_CARDS, HOME_GOALS)
TAGS = ((), (("kind", "goal"),), (("kind", "card"), ("team", "home")), (("team", "home"), ("kind", "goal")))


def draft(
    text: str,
    tags: tuple[tuple[str, str], ...] = (),
    excluded: Excluded | None = None,
    *,
    ephemeral: bool = False,
) -> Draft:
    return Draft(text.encode(), ephemeral, header=EventHeader("chat", tags=tags, excluded=excluded))


@attrs.define
class Follower:
    """A user over all its connections, which keeps its position as a client does."""

    user_id: str
    wanted: TagFilter | None
    stage: "Stage"
    position: Position | None = None
    got: list[bytes] = attrs.Factory(list)
    connections: int = 0
    person: Person | None = None
    _read: int = 0

    @property
    def connection(self) -> str:
        return f"{self.user_id}-{self.connections}"

    async def connect(self, last: int | None = None) -> None:
        self.connections += 1
        shown = Shown(self.user_id, self.connection)
        self.person = Person(self.user_id, self.stage.codec, shown=shown)
        self._read = 0
        reply: Reply[None] = Reply()
        join = Join(self.person, self.position, None, reply, last=last, wanted=self.wanted)
        ref = await self.stage.rooms.tell("den", join)
        await ref.wait_reply(reply)

    def read(self) -> None:
        """Take what has come: it follows the position without a hole."""
        assert self.person is not None
        for notice in self.person.heard[self._read :]:
            match notice:
                case Joined():
                    assert self.position is None or notice.is_recovered
                    for event in notice.events:
                        self._take(event, notice.position.epoch)
                    self.position = notice.position
                case RoomEvent():
                    self._take(notice.event, notice.epoch)
                case Withheld():
                    self._take(notice, notice.epoch)
                case Gap():
                    raise AssertionError(f"{self.user_id} is told of a gap")
        self._read = len(self.person.heard)

    def _take(self, event: Event | Withheld, epoch: str) -> None:
        if isinstance(event, Event):
            self.got.append(event.content)
            first = event.offset
        else:
            first = event.first
            assert self.wanted is not None or first == event.offset, (
                "a client without a filter gets one for each"
            )
        if event.offset is None or first is None:
            return
        if self.position is not None:
            assert first <= self.position.offset + 1, f"a hole before {event}"
            assert isinstance(event, Withheld) or event.offset == self.position.offset + 1
        self.position = Position(epoch, event.offset)

    async def step(self, step: str) -> None:
        """Drop the connection, or return, unless that is so; or let all others do what they can."""
        if step == "drop" and self.person is not None:
            await self.stage.leave(self.person)
            self.read()
            self.person = None
        elif step == "return" and self.person is None:
            await self.connect()
        elif step == "wait":
            await wait_all_tasks_blocked()

    def check(self, said: Sequence[Draft]) -> None:
        """Check what it got of the stored events."""
        self.read()
        stored = {event.content for event in said}
        got = [content for content in self.got if content in stored]
        wanted = [event for event in said if self._is_for_user(event)]
        # Kept from one connection, an event may reach the next one of the user, by its recovery.
        own = {f"{self.user_id}-{number}" for number in range(1, self.connections + 1)}
        optional = {
            event.content
            for event in wanted
            if event.header.excluded and event.header.excluded.connection in own
        }
        assert [content for content in got if content not in optional] == [
            event.content for event in wanted if event.content not in optional
        ]
        assert got == [event.content for event in wanted if event.content in got]
        assert self.position is not None
        assert self.position.offset == len(said)

    def _is_for_user(self, said: Draft) -> bool:
        excluded = said.header.excluded
        is_excluded = excluded is not None and excluded.user_id == self.user_id
        return not is_excluded and (self.wanted is None or self.wanted.matches(said.header.tags))


saying = st.tuples(
    st.sampled_from(["say", "say", "elsewhere"]),
    st.sampled_from(TAGS),
    st.sampled_from([None, None, "user", "connection"]),
    st.booleans(),
)
steps = st.lists(
    saying | st.tuples(st.sampled_from(["drop", "return", "wait", "crowd"]), st.integers(0, 3)), max_size=25
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(steps=steps, is_large=st.booleans(), is_prompt=st.booleans())
async def test_each_member_gets_what_is_for_it_through_drops_and_recoveries(
    open_stage: "OpenStage", steps: Sequence[tuple], is_large: bool, is_prompt: bool
) -> None:
    """The stored events that are for it, in order and once, and no hole that is not told of."""
    async with open_stage() as stage:
        stage.engine.is_prompt = is_prompt
        for number in range(BULK_MEMBERS if is_large else 0):
            await stage.rooms.tell("den", Join(stage.person(f"crowd {number}"), None, None, Reply()))
        followers = [Follower(f"user {n}", wanted, stage) for n, wanted in enumerate(FILTERS)]
        for follower in followers:
            await follower.connect()
        await wait_all_tasks_blocked()
        said: list[Draft] = []
        for number, (step, which, *rest) in enumerate(steps):
            follower = followers[which] if isinstance(which, int) else followers[number % 4]
            if rest:
                kind, ephemeral = rest
                excluded = {
                    "user": Excluded(user_id=follower.user_id),
                    "connection": Excluded(follower.connection),
                }.get(kind)
                event = draft(str(number), which, excluded, ephemeral=ephemeral and step == "say")
                said += await say(stage, event, is_here=step == "say")
            elif step == "crowd":
                events = [draft(f"{number} of all {n}") for n in range(3)]
                await stage.tell(*map(Publish, events))
                said += events
            else:
                await follower.step(step)
        for follower in followers:
            await follower.step("return")
        said += await say(stage, draft("the end", TAGS[3]), is_here=True)
        await wait_all_tasks_blocked()
        for follower in followers:
            follower.check(said)


async def say(stage: "Stage", event: Draft, *, is_here: bool) -> list[Draft]:
    """Publish an event, here or on another node; returns what is stored."""
    if is_here:
        await stage.rooms.publish("den", event)
    else:
        await stage.engine.append_elsewhere("den", [event], retention_for(stage.settings, "den"))
    return [] if event.ephemeral else [event]


@pytest.mark.parametrize(("is_large", "is_prompt"), [(False, False), (False, True), (True, True)])
async def test_events_that_a_filter_withholds_cost_one_notice_a_second(
    open_stage: "OpenStage", autojump_clock: "MockClock", is_large: bool, is_prompt: bool
) -> None:
    async with open_stage() as stage:
        stage.engine.is_prompt = is_prompt
        crowd = [stage.person(f"crowd {number}") for number in range(BULK_MEMBERS if is_large else 0)]
        for person in crowd:
            await stage.join(person)
        follower = Follower("ann", GOALS, stage)
        await follower.connect()
        await wait_all_tasks_blocked()
        ann = follower.person
        assert ann is not None
        ann.forget()
        started = trio.current_time()
        for number in range(30):
            await stage.rooms.publish("den", draft(str(number)))
            await trio.sleep(0.1)
        await trio.sleep(2 * WITHHELD_SECONDS)
        assert [type(notice) for notice in ann.heard] == [Withheld] * len(ann.heard)
        assert 2 <= len(ann.heard) <= 4, "not one for each event"
        assert ann.outbox.heard_at[0] == started + WITHHELD_SECONDS
        follower._read = 0
        follower.read()
        assert follower.position == await stage.position()
        # Nothing is sent where nothing is withheld.
        count = len(ann.heard)
        await trio.sleep(10 * WITHHELD_SECONDS)
        assert len(ann.heard) == count


async def test_what_is_withheld_comes_before_the_next_event_of_the_filter(stage: "Stage") -> None:
    follower = Follower("ann", GOALS, stage)
    await follower.connect()
    epoch = (await stage.position()).epoch
    for text, tags in (("1", ()), ("2", TAGS[2]), ("3", TAGS[1]), ("4", TAGS[1])):
        await stage.rooms.publish("den", draft(text, tags))
    assert follower.person is not None
    heard = [notice for notice in follower.person.heard if isinstance(notice, RoomEvent | Withheld)]
    assert heard[0] == Withheld("den", epoch, 1, 2)
    assert [notice.event.offset for notice in heard[1:] if isinstance(notice, RoomEvent)] == [3, 4]


async def test_a_join_replaces_the_filter(stage: "Stage") -> None:
    follower = Follower("ann", GOALS, stage)
    await follower.connect()
    ann = follower.person
    assert ann is not None
    for wanted, expected in (
        (GOALS, ["goal"]),
        (None, ["goal", "card"]),
        (TagFilter.of({"kind": ["card"]}), ["card"]),
    ):
        reply: Reply[None] = Reply()
        await stage.tell(Join(ann, None, None, reply, wanted=wanted))
        ann.forget()
        for kind in ("goal", "card"):
            await stage.rooms.publish("den", draft(kind, (("kind", kind),)))
        await wait_all_tasks_blocked()
        assert ann.texts() == expected


async def test_the_last_events_of_a_filter_are_those_that_match(open_stage: "OpenStage") -> None:
    async with open_stage(page_messages=7) as stage:
        for number in range(1, 10):
            await stage.rooms.publish("den", draft(str(number), TAGS[1] if number % 3 == 0 else ()))
        for last, expected in ((1, ["9"]), (2, ["6", "9"]), (50, ["3", "6", "9"])):
            follower = Follower(f"ann {last}", GOALS, stage)
            await follower.connect(last)
            follower.read()
            assert [content.decode() for content in follower.got] == expected
            assert follower.position == await stage.position()


async def test_a_history_has_withheld_events_in_their_places(stage: "Stage") -> None:
    follower, plain = Follower("ann", GOALS, stage), Follower("bob", None, stage)
    for each in (follower, plain):
        await each.connect()
    for number in range(1, 7):
        tags, excluded = TAGS[1] if number == 4 else (), Excluded(user_id="bob") if number in {2, 3} else None
        await stage.rooms.publish("den", draft(str(number), tags, excluded))
    epoch = (await stage.position()).epoch

    async def history(each: Follower, *, reverse: bool, limit: int = 100) -> list[object]:
        assert each.person is not None
        each.person.outbox.replies.clear()
        await stage.tell(SendHistory(each.person, None, limit, reverse, None))
        [(page,)] = each.person.outbox.replies
        return [(e.first, e.offset) if isinstance(e, Withheld) else e.offset for e in page.events]  # type: ignore[union-attr]

    assert await history(follower, reverse=False) == [(1, 3), 4, (5, 6)]
    assert await history(follower, reverse=True) == [(5, 6), 4, (1, 3)]
    assert await history(follower, reverse=False, limit=2) == [(1, 2)]
    assert await history(plain, reverse=False) == [1, (2, 2), (3, 3), 4, 5, 6]
    withheld = choose_stored([Event(b"{}", 0, 1)], Person("x"), GOALS, "den", epoch)
    assert withheld == (Withheld("den", epoch, 1, 1),)


@given(
    filters=st.lists(st.sampled_from(FILTERS), min_size=1, max_size=6),
    codecs=st.integers(1, 2),
    excluded=st.sets(st.integers(0, 5)),
    events=st.lists(st.tuples(st.sampled_from(TAGS), st.booleans()), min_size=1, max_size=5),
)
def test_frames_are_encoded_once_for_each_codec_and_filter(
    filters: list[TagFilter | None], codecs: int, excluded: set[int], events: list[tuple]
) -> None:
    shared = [NoticesCodec() for _ in range(codecs)]
    people = [
        Person(f"user {n}", shared[n % codecs], shown=Shown(f"user {n}", f"c{n}"))
        for n in range(len(filters))
    ]
    roster, tally = Roster(), Tally()
    for person, wanted in zip(people, filters, strict=True):
        roster.add(person)
        roster.choose(person, wanted)
    kept_from = excluded & set(range(len(people)))
    notices: list[Notice] = []
    for offset, (tags, is_excluding) in enumerate(events, 1):
        header = EventHeader(
            "chat", tags=tags, excluded=Excluded(f"c{min(kept_from)}") if kept_from and is_excluding else None
        )
        notices.append(RoomEvent("den", "e", Event(b"{}", 0, offset, header)))
    fanout = Fanout("den", tally, RecordingLog(), TimeSlice())
    fanout.queue(roster, notices)
    fanout.queue_withheld(roster)
    trio.run(fanout.send_queued)
    for n, (person, wanted) in enumerate(zip(people, filters, strict=True)):
        expected = [
            offset
            for offset, (tags, is_excluding) in enumerate(events, 1)
            if (wanted is None or wanted.matches(tags))
            and not (is_excluding and kept_from and n == min(kept_from))
        ]
        assert person.offsets() == expected
        # All offsets are told of, each once.
        covered = [
            offset
            for notice in person.heard
            for offset in (
                range(notice.first, notice.offset + 1)
                if isinstance(notice, Withheld)
                else [notice.event.offset]
                if isinstance(notice, RoomEvent)
                else []
            )
        ]
        assert covered == list(range(1, len(events) + 1))
    groups = {(n % codecs, wanted) for n, wanted in enumerate(filters)}
    encoded = sum(codec.encoded for codec in shared)
    assert encoded <= 2 * len(groups) + (1 if kept_from else 0)
    assert tally.deliveries == sum(len(person.heard) for person in people)


class FullOutbox(RecordingOutbox):
    """Refuses every frame."""

    def offer(self, frame: RoomFrame) -> bool:
        return False


async def test_a_lost_frame_counts_from_the_events_withheld_before_it() -> None:
    ann = Person("ann", outbox=FullOutbox(NoticesCodec()))
    roster, fanout = Roster(), Fanout("den", Tally(), RecordingLog(), TimeSlice())
    roster.add(ann)
    roster.choose(ann, GOALS)
    for offset, tags in ((5, ()), (6, ()), (7, TAGS[1])):
        fanout.queue(roster, [RoomEvent("den", "e", Event(b"{}", 0, offset, EventHeader("chat", tags=tags)))])
    await fanout.send_queued()
    assert ann.outbox.losses == [("den", (5, 7))]


def test_members_without_a_filter_and_events_without_exclusion_are_not_divided() -> None:
    people = [Person("ann"), Person("bob")]
    notices = [RoomEvent("den", "e", Event(b"{}", 0, 1))]
    [parcel] = divide([Audience(people[0].outbox.codec, people)], notices)
    assert parcel.notices is notices
    assert parcel.others == {}


async def test_a_room_that_fails_tells_of_what_was_withheld_before(
    open_stage: "OpenStage", autojump_clock: "MockClock"
) -> None:
    async with open_stage() as stage:
        follower = Follower("ann", GOALS, stage)
        await follower.connect()
        assert follower.person is not None
        follower.person.forget()
        await stage.rooms.publish("den", draft("1"))
        stage.engine.before["append"].append(ZeroDivisionError())
        with pytest.raises(ActorError):
            await stage.rooms.publish("den", draft("2"))
        await trio.sleep(2 * WITHHELD_SECONDS)
        assert follower.person.heard == [Withheld("den", (await stage.position()).epoch, 1, 1)]


def test_what_is_withheld_is_told_before_a_gap_and_never_for_an_epoch_that_is_over() -> None:
    def event(offset: int, epoch: str = "e") -> RoomEvent:
        return RoomEvent("den", epoch, Event(b"{}", 0, offset))

    choice = Choice(GOALS)
    assert choice.select([event(1), event(2), Gap("den", 3, 4), event(5)]) == [
        Withheld("den", "e", 1, 2),
        Gap("den", 3, 4),
    ]
    assert choice.select([event(1, "f"), event(2, "f")]) == []
    assert choice.take_withheld() == [Withheld("den", "f", 1, 2)]
    assert choice.take_withheld() == []
