"""Anything may happen in a room, in any order: what each member hears is checked against a plain record of it all."""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import Reply, RestartPolicy
from broker.errors import EngineUnavailableError
from broker.model import Position
from broker.notices import Joined, PresenceChanged, RoomEvent, UserJoined, UserLeft
from broker.rooms.messages import Join, Leave, Remove, RoomMessage

if TYPE_CHECKING:
    from tests.rooms.conftest import OpenStage, Stage
    from tests.rooms.machine.conftest import Change, Truth, Witness
    from tests.support.members import Person

WINDOW_SECONDS = 300.0
GATHER_SECONDS = 1.0
SEATS = 4
USERS = ("ann", "bob")


class BrokenError(Exception):
    """The failure of outboxes and the engine here."""


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
# Everybody is in at first: an empty room has little to say.
steps = st.lists(bursts | bursts | bursts | events, max_size=14).map(
    lambda steps: [[Come(seat, "none") for seat in range(SEATS)], *steps]
)


@attrs.define
class Record:
    """The actions, in the order in which the room got them."""

    stage: "Stage"
    new_witness: "Callable[[Person], Witness]"
    seated: "dict[int, Witness]" = attrs.Factory(dict)
    everyone: "list[Witness]" = attrs.Factory(list)
    present: "list[Witness]" = attrs.Factory(list)
    changes: "list[Change]" = attrs.Factory(list)
    said_at: dict[str, float] = attrs.Factory(dict)

    @property
    def said(self) -> list[RoomEvent]:
        return self.stage.engine.said.get("den", [])

    @property
    def truth(self) -> "Truth":
        return {(said.epoch, said.event.offset): said.event for said in self.said if said.event.offset}

    @property
    def whispers(self) -> list[str]:
        return [said.event.content.decode() for said in self.said if said.event.offset is None]

    async def do(self, step: "list[Deed] | Break | BreakEngine | Elsewhere | Pass") -> None:
        match step:
            case Break(seat):
                if seat in self.seated:
                    self.seated[seat].person.outbox.faults = [BrokenError()]
            case BreakEngine("after"):
                self.stage.engine.after_append = [BrokenError()]
            case BreakEngine(how):
                error = BrokenError() if how == "before" else EngineUnavailableError("down")
                self.stage.engine.before["append"] = [error]
            case Elsewhere(events):
                await self.stage.append(*[self.text("else", None) for _ in range(events)])
            case Pass(seconds):
                await trio.sleep(seconds)
                await self.stage.append("x", room="other")
            case _:
                await self.do_at_once(step)
        await wait_all_tasks_blocked()
        await self.end_the_failed()

    async def do_at_once(self, burst: list[Deed]) -> None:
        """Send messages as one batch, note in their order what they should do, and wait until they are done."""
        engine = self.stage.engine
        may_lose_replies = any(
            isinstance(fault, BrokenError) for fault in engine.before["append"] + engine.after_append
        )
        told: list[tuple[RoomMessage, Witness | None]] = []
        for deed in burst:
            witness = self.witness(deed)
            message = await self.message(deed, witness)
            if message is not None:
                told.append((message, witness))
        if told:
            await self.stage.tell(*[message for message, _ in told])
        for message, witness in told:
            self.note(message, witness)
        for witness in self.everyone:
            witness.check_replies(self.truth, may_be_lost=may_lose_replies)

    def witness(self, deed: Deed) -> "Witness | None":
        if isinstance(deed, Notify | Kick):
            return None
        if isinstance(deed, Come) and deed.seat not in self.seated:
            self.seated[deed.seat] = self.new_witness(self.stage.person(USERS[deed.seat % len(USERS)]))
            self.everyone.append(self.seated[deed.seat])
        witness = self.seated.get(deed.seat)
        if isinstance(deed, Go) and not deed.is_answered:
            self.seated.pop(deed.seat, None)
        return witness

    async def message(self, deed: Deed, witness: "Witness | None") -> RoomMessage | None:
        match deed:
            case Notify():
                return self.stage.chat(self.text("http", None))
            case Kick(user_id):
                return Remove(user_id, Reply())
            case _ if witness is None:
                return None
            case Come(_, since):
                return Join(witness.person, await self.since(witness.person, since), None, Reply())
            case Go(_, is_answered):
                return Leave(witness.person, is_answered)
            case Say(_, request_id, ephemeral):
                witness.expected_replies += request_id is not None
                text = self.text(witness.person.user_id, request_id)
                return self.stage.chat(text, witness.person, request_id, ephemeral=ephemeral)

    def text(self, user_id: str, request_id: int | None) -> str:
        text = f"{user_id} {request_id} {len(self.said_at)}"
        self.said_at[text] = trio.current_time()
        return text

    async def since(self, person: "Person", how: str) -> Position | None:
        """Return what a client may think that it has seen last."""
        now = await self.stage.position()
        seen = [joined.position for joined in person.heard_of(Joined)]
        seen += [
            Position(said.epoch, said.event.offset)
            for said in person.heard_of(RoomEvent)
            if said.event.offset
        ]
        return {
            "none": None,
            "last": seen[-1] if seen else now,
            "older": seen[0] if seen else Position(now.epoch, 0),
            "ahead": Position(now.epoch, now.offset + 2),
            "strange": Position("strange", now.offset),
        }[how]

    def note(self, message: RoomMessage, witness: "Witness | None") -> None:
        """Note what a handled message did to who is in."""
        match message:
            case Join(since=since, reply=reply):
                assert witness is not None
                # One that was disconnected before its turn has nobody left to wait for the answer.
                assert reply.is_settled or witness.has_failed, "a join was lost"
                witness.sinces.append(since)
                if not witness.is_in:
                    self.present.append(witness)
                    witness.note_joined(len(self.changes), len(self.whispers))
                    self.changes.append(("joined", witness.person.user_id, len(self.present)))
            case Leave():
                assert witness is not None
                self.note_left(witness)
            case Remove(user_id=user_id, reply=reply):
                assert reply.is_settled, "a removal was lost"
                for present in [each for each in self.present if each.person.user_id == user_id]:
                    self.note_left(present)

    def note_left(self, witness: "Witness") -> None:
        if witness.is_in:
            self.present.remove(witness)
            witness.note_left(len(self.changes))
            self.changes.append(("left", witness.person.user_id, len(self.present)))

    async def end_the_failed(self) -> None:
        """End the connections that the room has disconnected, as the transport does."""
        for seat, witness in list(self.seated.items()):
            if witness.has_failed:
                assert len(witness.person.disconnects) == 1
                del self.seated[seat]
                await self.stage.leave(witness.person)
                self.note_left(witness)

    async def check(self, *, is_gathered: bool, is_all_kept: bool) -> None:
        info = await self.stage.rooms.inspect("den")
        assert info.room_size == len(self.present)
        assert dict(info.users) == Counter(witness.person.user_id for witness in self.present)
        self.check_what_was_stored()
        for witness in self.everyone:
            witness.check_run(self.truth, info.position, is_all_kept=is_all_kept)
            witness.check_recovered(self.truth, is_all_kept=is_all_kept)
            witness.check_whispers(self.whispers)
            if is_gathered:
                witness.check_gathered(self.changes, GATHER_SECONDS)
            else:
                witness.check_changes(self.changes)

    def check_what_was_stored(self) -> None:
        """No id is stored twice within its window."""
        times: dict[str, float] = {}
        for said in self.said:
            text = said.event.content.decode()
            name = text.rpartition(" ")[0]
            if not name.endswith("None"):
                assert self.said_at[text] >= times.get(name, -WINDOW_SECONDS) + WINDOW_SECONDS
                times[name] = self.said_at[text]

    def check_end(self) -> None:
        """Those still in were told of everyone, gathered or not, and of the size at last."""
        for witness in self.present:
            last = [
                n for n in witness.person.heard if isinstance(n, PresenceChanged | UserJoined | UserLeft)
            ][-1]
            assert last.room_size == len(self.present)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    steps=steps,
    gather_above=st.sampled_from([1000, 0, 2]),
    messages=st.sampled_from([1000, 1000, 2, 0]),
    age_seconds=st.sampled_from([86_400.0, 86_400.0, 10.0]),
)
def test_every_member_gets_every_event_once_in_order_under_any_failure(
    open_stage: "OpenStage",
    new_witness: "Callable[[Person], Witness]",
    steps: list[Any],
    gather_above: int,
    messages: int,
    age_seconds: float,
) -> None:
    async def main() -> None:
        async with open_stage(
            gather_above=gather_above,
            gather_seconds=GATHER_SECONDS,
            messages=messages,
            age_seconds=age_seconds,
            policy=RestartPolicy(intensity=1000, backoff_seconds=0.0),
        ) as stage:
            record = Record(stage, new_witness)
            for step in [*steps, Pass(5.0), Pass(5.0)]:
                await record.do(step)
                await record.check(
                    is_gathered=gather_above < SEATS,
                    is_all_kept=messages == 1000 and age_seconds == 86_400.0,
                )
            record.check_end()

    trio.run(main, clock=MockClock(autojump_threshold=0))
