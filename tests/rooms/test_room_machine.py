"""Anything may happen in a room, in any order: what each member hears is checked against a plain record of it all."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from actors import Reply, RestartPolicy
from broker.errors import EngineUnavailableError
from broker.model import Position
from broker.notices import (
    Acknowledged,
    Failed,
    Gap,
    Joined,
    Left,
    PresenceChanged,
    Said,
    UserJoined,
    UserLeft,
)
from broker.rooms.messages import Join, Leave, Publish, Remove, RoomMessage

if TYPE_CHECKING:
    from tests.rooms.conftest import OpenStage, Person, Stage

WINDOW_SECONDS = 300.0
SEATS = 4
USERS = ("ann", "bob")

Change: TypeAlias = tuple[str, str, int]
"""`joined` or `left`, who, and the size that it brought the room to."""


class BrokenError(Exception):
    """What outboxes and the engine raise here."""


@attrs.frozen
class Come:
    """A seat's connection joins, with its last position, an older or a strange one, or none."""

    seat: int
    since: str


@attrs.frozen
class Go:
    """A seat's connection leaves and stays, or ends."""

    seat: int
    is_answered: bool


@attrs.frozen
class Say:
    """A seat's connection publishes; the same id again is a repetition."""

    seat: int
    request_id: int | None
    ephemeral: bool


@attrs.frozen
class Notify:
    """The application publishes."""


@attrs.frozen
class Kick:
    """The application removes a user."""

    user_id: str


@attrs.frozen
class Break:
    """A seat's outbox raises when it is next used."""

    seat: int


@attrs.frozen
class BreakEngine:
    """The engine's next append raises, before or after it is done."""

    how: str


@attrs.frozen
class Elsewhere:
    """Another node appends."""

    events: int


@attrs.frozen
class Pass:
    """Time passes."""

    seconds: float


Deed: TypeAlias = Come | Go | Say | Notify | Kick
seats = st.integers(0, SEATS - 1)
sinces = st.sampled_from(["none", "last", "last", "older", "strange", "ahead"])
says = st.builds(Say, seats, st.sampled_from([None, 1, 2]), st.sampled_from([False, False, True]))
deeds = (
    st.builds(Come, seats, sinces)
    | st.builds(Go, seats, st.booleans())
    | says
    | says
    | st.builds(Notify)
    | st.builds(Kick, st.sampled_from(USERS))
)
bursts = st.lists(deeds, min_size=1, max_size=6)
events = (
    st.builds(Break, seats)
    | st.builds(BreakEngine, st.sampled_from(["unavailable", "before", "after"]))
    | st.builds(Elsewhere, st.integers(1, 3))
    | st.builds(Pass, st.sampled_from([0.3, 1.0, 70.0, 400.0]))
)
# Everybody is in at first, mostly: an empty room has little to say.
steps = st.lists(bursts | bursts | bursts | events, max_size=14).map(
    lambda steps: [[Come(seat, "none") for seat in range(SEATS)], *steps]
)


@attrs.define(eq=False)
class Connection:
    """What the record knows of one connection."""

    person: "Person"
    is_in: bool = False
    begins: list[int] = attrs.Factory(list)
    """Where in the room's changes each of its stays begins, with its own join."""
    ends: list[int] = attrs.Factory(list)
    whispers_before: int = 0
    """How many ephemeral events there were when it last joined."""
    expected_replies: int = 0


@attrs.define
class Record:
    """What was done, in the order in which the room was told."""

    stage: "Stage"
    gather_above: int
    is_all_kept: bool
    seated: dict[int, Connection] = attrs.Factory(dict)
    everyone: list[Connection] = attrs.Factory(list)
    present: list[Connection] = attrs.Factory(list)
    changes: list[Change] = attrs.Factory(list)
    said_at: dict[str, float] = attrs.Factory(dict)
    numbers: int = 0

    # Doing.

    async def do(self, step: "list[Deed] | Break | BreakEngine | Elsewhere | Pass") -> None:
        match step:
            case Break(seat):
                if seat in self.seated:
                    self.seated[seat].person.outbox.faults = [BrokenError()]
            case BreakEngine(how):
                engine = self.stage.engine
                if how == "after":
                    engine.after_append = [BrokenError()]
                else:
                    engine.before["append"] = [
                        BrokenError() if how == "before" else EngineUnavailableError("down")
                    ]
            case Elsewhere(events):
                await self.stage.append(*[self.text("else", None) for _ in range(events)])
            case Pass(seconds):
                await trio.sleep(seconds)
                await self.stage.append("x", room="other")
            case _:
                await self.do_at_once(step)
        await self.see_who_failed()
        await self.check()

    async def do_at_once(self, burst: list[Deed]) -> None:
        """Send messages as one batch, note in their order what they should do, and wait until they are done."""
        told: list[tuple[RoomMessage, Deed, Connection | None]] = []
        is_engine_broken = self.is_engine_broken()
        for deed in burst:
            connection = self.connection(deed)
            message = await self.message(deed, connection)
            if message is not None:
                told.append((message, deed, connection))
        if told:
            await self.stage.tell(*[message for message, _, _ in told])
        for message, deed, connection in told:
            self.note(message, deed, connection)
        for connection in self.everyone:
            self.check_replies(connection, may_be_lost=is_engine_broken)

    def is_engine_broken(self) -> bool:
        faults = self.stage.engine.before["append"] + self.stage.engine.after_append
        return any(isinstance(fault, BrokenError) for fault in faults)

    def connection(self, deed: Deed) -> Connection | None:
        if isinstance(deed, Notify | Kick):
            return None
        if isinstance(deed, Come) and deed.seat not in self.seated:
            person = self.stage.person(USERS[deed.seat % len(USERS)])
            self.seated[deed.seat] = Connection(person)
            self.everyone.append(self.seated[deed.seat])
        connection = self.seated.get(deed.seat)
        if isinstance(deed, Go) and not deed.is_answered:
            self.seated.pop(deed.seat, None)
        return connection

    async def message(self, deed: Deed, connection: Connection | None) -> RoomMessage | None:
        match deed:
            case Notify():
                return self.stage.chat(self.text("http", None))
            case Kick(user_id):
                return Remove(user_id, Reply())
            case _ if connection is None:
                return None
            case Come(_, since):
                return Join(connection.person, await self.since(connection, since), None, Reply())
            case Go(_, is_answered):
                return Leave(connection.person, is_answered)
            case Say(_, request_id, ephemeral):
                text = self.text(connection.person.user_id, request_id)
                connection.expected_replies += request_id is not None
                return self.stage.chat(text, connection.person, request_id, ephemeral=ephemeral)

    def text(self, user_id: str, request_id: int | None) -> str:
        self.numbers += 1
        text = f"{user_id} {request_id} {self.numbers}"
        self.said_at[text] = trio.current_time()
        return text

    async def since(self, connection: Connection, how: str) -> Position | None:
        """Return what a client may think that it has seen last."""
        now = await self.stage.position()
        seen = [Position(said.epoch, said.event.offset or 0) for said in connection.person.heard_of(Said)]
        seen += [joined.position for joined in connection.person.heard_of(Joined)]
        match how:
            case "none":
                return None
            case "last":
                return seen[-1] if seen else now
            case "older":
                return seen[0] if seen else Position(now.epoch, 0)
            case "ahead":
                return Position(now.epoch, now.offset + 2)
            case _:
                return Position("strange", now.offset)

    def note(self, message: RoomMessage, deed: Deed, connection: Connection | None) -> None:
        """Note what a handled message did to who is in."""
        match message, connection:
            case Join(reply=reply), Connection():
                assert reply.is_settled, "a join was lost"
                if not connection.is_in:
                    connection.is_in = True
                    self.present.append(connection)
                    connection.begins.append(len(self.changes))
                    self.changes.append(("joined", connection.person.user_id, len(self.present)))
                    connection.whispers_before = len(self.whispers())
            case Leave(), Connection():
                self.note_left(connection)
            case Remove(user_id=user_id, reply=reply), None:
                assert reply.is_settled, "a removal was lost"
                for present in [each for each in self.present if each.person.user_id == user_id]:
                    self.note_left(present)
            case Publish(), _:
                assert isinstance(deed, Say | Notify)

    def note_left(self, connection: Connection) -> None:
        if not connection.is_in:
            return
        connection.is_in = False
        self.present.remove(connection)
        connection.ends.append(len(self.changes))
        self.changes.append(("left", connection.person.user_id, len(self.present)))

    async def see_who_failed(self) -> None:
        """End the connections of those that the room has disconnected, as the transport does."""
        for seat, connection in list(self.seated.items()):
            if connection.person.disconnects:
                assert len(connection.person.disconnects) == 1
                del self.seated[seat]
                await self.stage.leave(connection.person)
                self.note_left(connection)

    # Checking.

    def whispers(self) -> list[str]:
        """Return the texts of all ephemeral events."""
        said = self.stage.engine.said.get("den", [])
        return [each.event.content.decode() for each in said if each.event.offset is None]

    async def check(self) -> None:
        info = await self.stage.rooms.inspect("den")
        users: dict[str, int] = {}
        for connection in self.present:
            users[connection.person.user_id] = users.get(connection.person.user_id, 0) + 1
        assert (info.room_size, dict(info.users)) == (len(self.present), users)
        self.check_what_was_stored()
        for connection in self.everyone:
            position = self.check_run(connection)
            if connection.is_in:
                assert position == info.position, "a member has not been told all"
            self.check_changes(connection)
            self.check_whispers(connection)

    def check_what_was_stored(self) -> None:
        """No id is stored twice within its window."""
        times: dict[str, float] = {}
        for said in self.stage.engine.said.get("den", []):
            text = said.event.content.decode()
            name = text.rpartition(" ")[0]
            if not name.endswith("None"):
                assert self.said_at[text] >= times.get(name, -1000.0) + WINDOW_SECONDS
                times[name] = self.said_at[text]

    def check_run(self, connection: Connection) -> Position | None:
        """Check that a connection heard a run of events without gap or repeat; returns where it stands."""
        truth = {
            (said.epoch, said.event.offset): said.event for said in self.stage.engine.said.get("den", [])
        }
        position: Position | None = None
        for notice in connection.person.heard:
            match notice:
                case Joined():
                    assert position in (None, notice.position), "joined again somewhere else"
                    position = notice.position
                    self.check_recovered(notice, truth)
                case Said(epoch=epoch, event=event):
                    assert position is not None, "heard an event of a room it was not in"
                    if event.offset is not None:
                        expected = position.offset + 1 if epoch == position.epoch else 1
                        assert event == truth[epoch, expected]
                        position = Position(epoch, expected)
                case Gap(first=first, last=last):
                    assert position is not None
                    assert not self.is_all_kept, "a gap though all is kept"
                    epochs = [said.epoch for said in self.stage.engine.said["den"]]
                    is_new_epoch = first != position.offset + 1
                    position = Position(epochs[-1] if is_new_epoch else position.epoch, last)
                    assert not is_new_epoch or first == 1
                case Left():
                    position = None
                case UserJoined() | UserLeft() | PresenceChanged():
                    assert position is not None, "heard who is in a room it was not in"
        return position

    def check_recovered(self, joined: Joined, truth: dict[tuple[str, int | None], Any]) -> None:
        offsets = [event.offset or 0 for event in joined.events]
        assert offsets == list(range(joined.position.offset - len(offsets) + 1, joined.position.offset + 1))
        assert all(truth[joined.position.epoch, event.offset] == event for event in joined.events)
        assert joined.is_recovered or not offsets

    def stays(self, connection: Connection) -> list[list[Any]]:
        """Return what the connection heard in each of its stays."""
        stays: list[list[Any]] = []
        is_in = False
        for notice in connection.person.heard:
            if isinstance(notice, Joined) and not is_in:
                stays.append([])
            is_in = not isinstance(notice, Left) if isinstance(notice, Joined | Left) else is_in
            if is_in:
                stays[-1].append(notice)
        return stays

    def check_changes(self, connection: Connection) -> None:
        """Every join and leave while it was in was told to it once, in order, with the size."""
        for number, heard in enumerate(self.stays(connection)):
            begin, end = connection.begins[number], [*connection.ends, len(self.changes)][number]
            if self.gather_above >= SEATS * 10:
                expected = self.changes[begin:end]
                told = [change for notice in heard for change in one_by_one(notice)]
                is_cut = bool(connection.person.disconnects)
                assert told == (expected[: len(told)] if is_cut else expected)
                assert is_cut or heard[0].room_size == expected[0][2]
            else:
                self.check_gathered(heard, begin, end)
        told_at = [
            at
            for at, notice in zip(connection.person.outbox.heard_at, connection.person.heard, strict=True)
            if isinstance(notice, PresenceChanged)
        ]
        assert all(later - sooner >= 1.0 for sooner, later in pairwise(told_at)), "told too often"

    def check_gathered(self, heard: list[Any], begin: int, end: int) -> None:
        """One who comes while others are gathered hears of those too, and of nothing twice."""
        for kind in ("joined", "left"):
            told = [user for notice in heard for user in users_of(notice, kind)]
            happened = [user for what, user, _ in self.changes[:end] if what == kind]
            assert any(
                told == happened[first : first + len(told)]
                for first in range(sum(what == kind for what, _, _ in self.changes[: begin + 1]) + 1)
            ), (told, happened)

    def check_whispers(self, connection: Connection) -> None:
        """Ephemeral events are heard by all who are in, once and in order."""
        stays = self.stays(connection)
        if not stays:
            return
        heard = [
            n.event.content.decode() for n in stays[-1] if isinstance(n, Said) and n.event.offset is None
        ]
        whispers = self.whispers()
        if connection.is_in:
            assert heard == whispers[len(whispers) - len(heard) :]
            assert len(heard) >= len(whispers) - connection.whispers_before
        assert len(set(heard)) == len(heard)

    def check_replies(self, connection: Connection, *, may_be_lost: bool) -> None:
        person = connection.person
        replies = len(person.heard_of(Acknowledged)) + len(person.heard_of(Failed))
        if may_be_lost:
            connection.expected_replies = replies
        assert replies == connection.expected_replies or person.disconnects
        truth = {
            (said.epoch, said.event.offset): said.event for said in self.stage.engine.said.get("den", [])
        }
        for ack in person.heard_of(Acknowledged):
            if ack.position is not None:
                text = truth[ack.position.epoch, ack.position.offset].content.decode()
                assert text.startswith(f"{person.user_id} {ack.request_id} ")


def one_by_one(notice: object) -> list[Change]:
    match notice:
        case UserJoined(_, user_id, size):
            return [("joined", user_id, size)]
        case UserLeft(_, user_id, size):
            return [("left", user_id, size)]
    assert not isinstance(notice, PresenceChanged)
    return []


def users_of(notice: object, kind: str) -> tuple[str, ...]:
    match notice:
        case UserJoined(_, user_id, _):
            return (user_id,) if kind == "joined" else ()
        case UserLeft(_, user_id, _):
            return (user_id,) if kind == "left" else ()
        case PresenceChanged(_, joined, left, _):
            return joined if kind == "joined" else left
    return ()


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=steps,
    gather_above=st.sampled_from([1000, 0, 2]),
    messages=st.sampled_from([1000, 1000, 2, 0]),
    age_seconds=st.sampled_from([86_400.0, 86_400.0, 10.0]),
)
def test_whatever_happens_everyone_hears_it_once_and_in_order(
    open_stage: "OpenStage", steps: list[Any], gather_above: int, messages: int, age_seconds: float
) -> None:
    async def main() -> None:
        async with open_stage(
            gather_above=gather_above,
            messages=messages,
            age_seconds=age_seconds,
            policy=RestartPolicy(intensity=1000, backoff_seconds=0.0),
        ) as stage:
            record = Record(stage, gather_above, messages == 1000 and age_seconds == 86_400.0)
            for step in [*steps, Pass(5.0)]:
                await record.do(step)
            # Those still in have been told of everything to its end.
            for connection in record.present:
                told = [user for n in record.stays(connection)[-1] for user in users_of(n, "joined")]
                assert told[-1:] == [user for kind, user, _ in record.changes if kind == "joined"][-1:]
                sizes = [n.room_size for n in connection.person.heard if hasattr(n, "room_size")]
                assert sizes[-1] == len(record.present)

    trio.run(main, clock=MockClock(autojump_threshold=0))
