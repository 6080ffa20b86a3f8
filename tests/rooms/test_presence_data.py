"""Info and state of members: a plain model of a room, against what members are told and what is listed."""

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import msgspec
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from actors import Reply
from broker.config.settings import RoomRule
from broker.model import PresenceBy, Shown
from broker.notices import (
    Acknowledged,
    Failed,
    Joined,
    Notice,
    PresenceChanged,
    PresenceList,
    PresenceUpdated,
    UserJoined,
    UserLeft,
)
from broker.rooms.messages import Join, SendPresence, SetState, ShowInfo
from tests.support.members import Person

if TYPE_CHECKING:
    from tests.rooms.conftest import OpenStage, Stage

USERS = ("ann", "bob")
SEATS = 5
GATHER_SECONDS = 1.0

Step: TypeAlias = tuple[str, int, Any]
data = st.none() | st.sampled_from([b"0", b'"typing"', b'{"x":1}'])
seats = st.integers(0, SEATS - 1)
steps = st.lists(
    st.tuples(st.just("join"), seats, data)
    | st.tuples(st.just("leave"), seats, st.none())
    | st.tuples(st.just("state"), seats, data)
    | st.tuples(st.just("state"), seats, data)
    | st.tuples(st.just("info"), seats, data)
    | st.tuples(st.just("pass"), seats, st.sampled_from([0.3, 1.5])),
    max_size=25,
)


def connection(number: int, user_id: str, info: bytes | None) -> Person:
    return Person(user_id, shown=Shown(user_id, f"c{number}", number, info))


@attrs.define
class Follower:
    """Keeps account of what the connections show as a client does, from what it is told."""

    seen: dict[str, Shown] = attrs.Factory(dict)
    size: int = 0
    names: Counter[str] = attrs.Factory(Counter)

    def note(self, notice: Notice) -> None:
        if isinstance(notice, UserJoined | UserLeft | PresenceChanged):
            self.size = notice.room_size
        match notice:
            case UserJoined(user_id=user_id, shown=shown):
                self.names[user_id] += 1
                if shown is not None:
                    self.seen[shown.connection] = shown
            case UserLeft(user_id=user_id, shown=shown):
                self.names[user_id] -= 1
                if shown is not None:
                    self.seen.pop(shown.connection, None)
            case PresenceUpdated(_, shown):
                self.seen[shown.connection] = shown
            case PresenceChanged(_, joined, left, _, updated, gone):
                self.names.update(joined)
                self.names.subtract(left)
                for connection in gone:
                    self.seen.pop(connection, None)
                self.seen |= {shown.connection: shown for shown in updated}

    def shown(self) -> dict[str, Shown]:
        return {connection: shown for connection, shown in self.seen.items() if shown.has_data}


@attrs.define
class Model:
    """Does the steps, and knows what each connection should show."""

    stage: "Stage"
    is_open: bool
    seated: dict[int, Person] = attrs.Factory(dict)
    truth: dict[str, Shown] = attrs.Factory(dict)
    made: int = 0

    async def do(self, step: Step) -> None:
        kind, seat, value = step
        person = self.seated.get(seat)
        match kind:
            case "pass":
                await trio.sleep(value)
            case "join" if person is None:
                self.made += 1
                person = self.seated[seat] = connection(self.made, USERS[seat % 2], value)
                self.truth[person.shown.connection] = self.visible(person.shown)
                await self.stage.join(person)
            case "leave" if person is not None:
                del self.seated[seat], self.truth[person.shown.connection]
                await self.stage.leave(person)
            case "state" if person is not None:
                if self.is_open:
                    shown = self.truth[person.shown.connection]
                    self.truth[person.shown.connection] = msgspec.structs.replace(shown, state=value)
                await self.stage.tell(SetState(person, value))
            case "info" if person is not None:
                person.shown = msgspec.structs.replace(person.shown, info=value)
                shown = self.truth[person.shown.connection]
                self.truth[person.shown.connection] = msgspec.structs.replace(
                    shown, info=value if self.is_open else None
                )
                await self.stage.tell(ShowInfo(person))

    def visible(self, shown: Shown) -> Shown:
        return shown if self.is_open else msgspec.structs.replace(shown, info=None)

    async def listed(self, asker: Person, by: PresenceBy) -> PresenceList:
        asker.forget()
        await self.stage.tell(SendPresence(asker, None, None, by))
        [answer] = asker.heard_of(PresenceList)
        return answer


async def check(opening: "OpenStage", steps: list[Step], above: int, *, is_open: bool) -> None:
    rules = (RoomRule(pattern="den", presence_data=is_open),)
    async with opening(gather_above=above, gather_seconds=GATHER_SECONDS, rules=rules) as stage:
        model = Model(stage, is_open)
        watcher = await stage.join(Person("eve", shown=Shown("eve", "c0", 0), is_visible=False))
        for step in steps:
            await model.do(step)
        await trio.sleep(2 * GATHER_SECONDS)
        follower = Follower()
        for notice in watcher.heard:
            follower.note(notice)
        users = Counter(shown.user_id for shown in model.truth.values())
        assert follower.shown() == {key: shown for key, shown in model.truth.items() if shown.has_data}
        assert +follower.names == users
        assert follower.size == len(model.truth)
        await check_lists(model, watcher, users)


async def check_lists(model: Model, watcher: Person, users: Counter[str]) -> None:
    size = len(model.truth)
    counted = await model.listed(watcher, PresenceBy.COUNT)
    assert (counted.room_size, counted.user_count, counted.users) == (size, len(users), None)
    by_connection = await model.listed(watcher, PresenceBy.CONNECTION)
    assert by_connection.connections is not None
    assert {shown.connection: shown for shown in by_connection.connections} == model.truth
    by_user = await model.listed(watcher, PresenceBy.USER)
    assert by_user.users is not None
    assert dict(by_user.users) == users
    newest = {
        user: [
            shown.info
            for shown in sorted(model.truth.values(), key=lambda s: s.since_ms)
            if shown.user_id == user and shown.info is not None
        ][-1:]
        for user in users
    }
    assert by_user.infos == {user: infos[0] for user, infos in newest.items() if infos}
    # A member that joins with a list is told the same.
    await model.stage.tell(Join(watcher, None, None, Reply(), PresenceBy.CONNECTION))
    listed = watcher.heard_of(Joined)[-1].presence
    assert listed == by_connection


@given(steps, st.sampled_from([0, 2, 100]), st.booleans())
@example([("join", 0, b"1"), ("state", 0, b"2"), ("leave", 0, None), ("pass", 0, 1.5)], 0, True)
@example([("join", 0, b"1"), ("pass", 0, 1.5), ("leave", 0, None), ("pass", 0, 1.5)], 0, True)
@example([("join", 0, b"1"), ("pass", 0, 1.5), ("info", 0, None), ("leave", 0, None)], 0, True)
@example([("join", 0, None), ("state", 0, b"2"), ("state", 0, None), ("leave", 0, None)], 0, True)
@example([("join", 1, b"0"), ("info", 1, None)], 0, True)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_members_are_told_what_each_connection_shows(
    open_stage: "OpenStage", steps: list[Step], above: int, is_open: bool
) -> None:
    async def run() -> None:
        await check(open_stage, steps, above, is_open=is_open)

    trio.run(run, clock=MockClock(autojump_threshold=0))


async def test_a_small_room_is_told_at_once_and_nothing_twice(stage: "Stage") -> None:
    ann, bob = connection(1, "ann", b'"A"'), await stage.enter("bob")
    await stage.join(ann)
    shown = ann.shown
    await stage.tell(SetState(ann, b"1"), SetState(ann, b"1"), SetState(ann, b"2"), ShowInfo(ann))
    await stage.leave(ann)
    one, two = (msgspec.structs.replace(shown, state=state) for state in (b"1", b"2"))
    assert bob.heard == [
        UserJoined("den", "ann", 2, shown),
        PresenceUpdated("den", one),
        PresenceUpdated("den", two),
        UserLeft("den", "ann", 1, two),
    ]


async def test_of_the_states_of_one_second_a_large_room_is_told_the_latest(
    open_stage: "OpenStage", autojump_clock: object
) -> None:
    async with open_stage(gather_above=1, gather_seconds=1.0) as stage:
        ann, bob = connection(1, "ann", None), await stage.enter("bob")
        await stage.join(ann)
        await trio.sleep(2)
        bob.forget()
        for number in range(50):
            await stage.tell(SetState(ann, b"%d" % number))
            await trio.sleep(0.05)
        await trio.sleep(2)
        updates = [shown.state for notice in bob.heard_of(PresenceChanged) for shown in notice.updated]
        assert 2 <= len(updates) <= 4
        assert updates[-1] == b"49"
        assert not bob.heard_of(PresenceUpdated)


async def test_a_state_is_acknowledged_and_that_of_a_stranger_refused(stage: "Stage") -> None:
    ann, bob = await stage.enter("ann"), stage.person("bob")
    await stage.tell(SetState(ann, b"1", "r1"), SetState(bob, b"1", "r2"))
    assert ann.heard_of(Acknowledged) == [Acknowledged("den", None, "r1")]
    [failed] = bob.heard_of(Failed)
    assert (failed.refused.code.value, failed.request_id) == ("not_in_room", "r2")


async def test_a_list_leaves_out_data_that_is_too_much_for_one_message(open_stage: "OpenStage") -> None:
    async with open_stage(page_bytes=1000) as stage:
        for number in range(10):
            await stage.join(connection(number, f"user {number}", b"1" * 300))
        eve = await stage.enter("eve")
        for by in (PresenceBy.USER, PresenceBy.CONNECTION):
            eve.forget()
            await stage.tell(SendPresence(eve, None, None, by))
            [answer] = eve.heard_of(PresenceList)
            shown = answer.infos.values() if answer.connections is None else answer.connections
            infos = [each if isinstance(each, bytes) else each.info for each in shown]
            assert sum(info is not None for info in infos) == 3
            assert answer.is_partial
            assert len(answer.users or answer.connections or ()) == 11
