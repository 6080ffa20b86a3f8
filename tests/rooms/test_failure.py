"""A failing member ends alone; a failing room keeps its members, and each gets every event once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors import ActorError, ActorFailedError, ActorStoppedError, Reply, RestartPolicy
from broker.errors import CloseCode
from broker.model import Draft, Position
from broker.notices import (
    Acknowledged,
    Joined,
    Left,
    Notice,
    PresenceChanged,
    PresenceList,
    RoomEvent,
    UserJoined,
    UserLeft,
)
from broker.rooms.broadcast import MEMBERS_PER_PART
from broker.rooms.fanout import BULK_MEMBERS
from broker.rooms.messages import Leave, Remove, SendPresence, SendPresenceBatch
from tests.support.members import NoticesCodec, Person

if TYPE_CHECKING:
    from tests.rooms.conftest import OpenStage, Stage


class BrokenError(Exception):
    """The failure in these tests."""


FAILED = [(CloseCode.INTERNAL_ERROR, "delivery failed")]


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_member_that_cannot_be_told_is_disconnected_and_all_others_are_told(
    stage: "Stage", place: int
) -> None:
    people = [await stage.enter(f"user {number}") for number in range(3)]
    for person in people:
        person.forget()
    people[place].outbox.faults = [BrokenError()]
    await stage.tell(stage.chat("1"), stage.chat("2"))
    await stage.say("3")
    for person in people:
        assert person.disconnects == (FAILED if person is people[place] else [])
        assert person.offsets() == ([] if person is people[place] else [1, 2, 3])
    await stage.leave(people[place])
    for person in people:
        if person is not people[place]:
            assert person.heard[3:] == [UserLeft("den", people[place].user_id, 2)]
    assert stage.log.events == ["delivery failed"]
    assert stage.log.lines[0].fields["room"] == "den"
    assert isinstance(stage.log.lines[0].fields["exc_info"], BrokenError)


async def test_any_number_that_fail_take_nobody_along(stage: "Stage") -> None:
    people = [await stage.enter(f"user {number}") for number in range(40)]
    for person in people:
        person.forget()
    failing = people[1:-1]
    for person in failing:
        person.outbox.faults = [BrokenError()] * 10
    await stage.say("1")
    await stage.say("2")
    for person in people:
        assert person.offsets() == ([] if person in failing else [1, 2])
        assert person.disconnects == (FAILED if person in failing else [])
    assert stage.log.events == ["delivery failed"] * len(failing)
    assert (await stage.rooms.inspect("den")).room_size == 40


@pytest.mark.parametrize("count", [3, BULK_MEMBERS + 2 * MEMBERS_PER_PART])
async def test_members_that_cannot_even_be_disconnected_take_nobody_along(stage: "Stage", count: int) -> None:
    people = [await stage.enter(f"user {number}") for number in range(count)]
    await stage.say("0")
    for person in people:
        person.forget()
    failing = people[1::2]
    for person in failing:
        person.outbox.faults = [BrokenError()] * 10
        person.disconnect_fault = BrokenError()
    await stage.say("1")
    await stage.say("2")
    for person in people:
        assert person.offsets() == ([] if person in failing else [2, 3])
        assert person.disconnects == (FAILED if person in failing else [])
    assert stage.log.events == ["delivery failed"] * len(failing)


@pytest.mark.parametrize("count", [3, BULK_MEMBERS + 2 * MEMBERS_PER_PART])
async def test_members_of_a_codec_that_fails_take_nobody_along(stage: "Stage", count: int) -> None:
    class FailingCodec(NoticesCodec):
        is_broken = False

        def encode(self, notices: Sequence[Notice]) -> bytes:
            if self.is_broken:
                raise BrokenError
            return super().encode(notices)

    codec = FailingCodec()
    people = [await stage.join(Person(f"user {n}", codec if n % 2 else stage.codec)) for n in range(count)]
    for person in people:
        person.forget()
        person.disconnect_fault = BrokenError()
    codec.is_broken = True
    await stage.say("1")
    await stage.say("2")
    for number, person in enumerate(people):
        assert person.offsets() == ([] if number % 2 else [1, 2])
        assert person.disconnects == (FAILED if number % 2 else [])
    assert stage.log.events == ["delivery failed"]


@pytest.mark.parametrize("culprit", ["sender", "another"])
async def test_acknowledgements_survive_a_failure_among_the_members(stage: "Stage", culprit: str) -> None:
    ann, bob, cat = [await stage.enter(user) for user in ("ann", "bob", "cat")]
    failing = bob if culprit == "sender" else cat
    failing.outbox.faults = [BrokenError()]
    ann.forget()
    await stage.tell(stage.chat("1", bob, "b"), stage.chat("2", ann, "a"))
    assert [type(notice) for notice in ann.heard] == [RoomEvent, RoomEvent, Acknowledged]
    assert len(bob.heard_of(Acknowledged)) == (culprit == "another")


async def test_an_application_gets_its_receipt_though_a_member_fails(stage: "Stage") -> None:
    ann = await stage.enter("ann")
    ann.outbox.faults = [BrokenError()]
    published = await stage.rooms.publish("den", Draft(b"1"))
    assert published.receipt.position == await stage.position()


async def test_messages_behind_a_failing_publish_are_handled(stage: "Stage") -> None:
    """A leave above all: nothing else would ever take the member out of the room."""
    ann, bob, cat = [await stage.enter(user) for user in ("ann", "bob", "cat")]
    dan = stage.person("dan")
    ann.forget()
    cat.outbox.faults = [BrokenError()]
    await stage.tell(
        stage.chat("1"),
        Leave(bob, is_answered=True),
        stage.chat("2", ann, "a"),
        stage.joining(dan),
        SendPresence(ann, "p"),
    )
    assert (bob.texts(), bob.heard[-1]) == (["1"], Left("den"))
    assert [type(notice) for notice in ann.heard] == [
        RoomEvent,
        UserLeft,
        RoomEvent,
        Acknowledged,
        UserJoined,
        PresenceList,
    ]
    assert (await stage.rooms.inspect("den")).users == (("ann", 1), ("cat", 1), ("dan", 1))


@pytest.mark.parametrize("is_stored", [False, True])
async def test_a_leave_behind_a_publish_that_breaks_the_engine_is_done(
    stage: "Stage", is_stored: bool
) -> None:
    ann, bob = await stage.enter("ann"), await stage.enter("bob")
    ann.forget()
    if is_stored:
        stage.engine.after_append = [BrokenError()]
    else:
        stage.engine.before["append"] = [BrokenError()]
    await stage.tell(stage.chat("1", ann, "a"), stage.leaving(bob))
    await stage.tell(stage.chat("1", ann, "a"))
    assert ann.heard_of(UserLeft) == [UserLeft("den", "bob", 1)]
    # RoomEvent once, by the room's next incarnation or when it was asked for again.
    assert ann.texts() == ["1"]
    assert len(ann.heard_of(Acknowledged)) == 1


async def test_a_member_that_fails_takes_nothing_from_the_others(stage: "Stage") -> None:
    """With any notice: joins, leaves, lists."""
    ann, bob, cat = [await stage.enter(user) for user in ("ann", "bob", "cat")]
    for person in (ann, bob, cat):
        person.forget()
    ann.outbox.faults = [BrokenError()]
    dan = await stage.join(stage.person("dan"))
    assert bob.heard == cat.heard == [UserJoined("den", "dan", 4)]
    assert [type(notice) for notice in dan.heard] == [Joined, UserJoined]
    bob.outbox.faults = [BrokenError()]
    await stage.leave(cat)
    assert dan.heard[2:] == [UserLeft("den", "cat", 3)]


async def test_a_member_whose_joined_cannot_be_queued_is_disconnected(stage: "Stage") -> None:
    ann, bob = await stage.enter("ann"), stage.person("bob")
    bob.outbox.faults = [BrokenError()]
    with trio.fail_after(60):
        await stage.join(bob)
    assert bob.disconnects == FAILED
    await stage.leave(bob)
    assert ann.heard == [UserJoined("den", "bob", 2), UserLeft("den", "bob", 1)]


async def test_a_member_whose_left_cannot_be_queued_has_left(stage: "Stage") -> None:
    ann, bob = await stage.enter("ann"), await stage.enter("bob")
    ann.forget()
    bob.outbox.faults = [BrokenError()]
    await stage.leave(bob, is_answered=True)
    assert ann.heard == [UserLeft("den", "bob", 1)]


async def test_all_connections_of_a_user_are_removed_though_one_fails(stage: "Stage") -> None:
    ann, *bobs = [await stage.enter(user) for user in ("ann", "bob", "bob", "bob")]
    ann.forget()
    bobs[0].outbox.faults = [BrokenError()]
    assert await stage.rooms.remove("den", "bob") == 3
    await wait_all_tasks_blocked()
    assert ann.heard == [UserLeft("den", "bob", size) for size in (3, 2, 1)]
    assert [bob.removals for bob in bobs[1:]] == [["den"], ["den"]]
    assert bobs[0].disconnects == FAILED


async def test_gathered_changes_survive_a_failure(open_stage: "OpenStage", autojump_clock: object) -> None:
    async with open_stage(gather_above=0) as stage:
        ann, bob = await stage.enter("ann"), await stage.enter("bob")
        ann.outbox.faults = [BrokenError()]
        await trio.sleep(5)
        assert bob.heard == [PresenceChanged("den", ("ann", "bob"), (), 2)]
        stage.engine.before["append"] = [BrokenError()]
        await stage.enter("cat")
        await stage.tell(stage.chat("1"), SendPresenceBatch())
        await trio.sleep(5)
        assert bob.heard[1:] == [PresenceChanged("den", ("cat",), (), 3)]


async def test_a_question_that_the_room_failed_over_is_answered(stage: "Stage") -> None:
    stage.engine.before["append"] = [BrokenError("no")]
    with pytest.raises(ActorFailedError, match="no"):
        await stage.rooms.publish("den", Draft(b"1"))
    await wait_all_tasks_blocked()
    stage.engine.before["read"] = [BrokenError()]
    with pytest.raises(ActorFailedError):
        await stage.rooms.read("den", None, 1, reverse=False)
    await stage.rooms.publish("den", Draft(b"1"))


async def test_a_room_past_saving_sends_its_members_away_and_makes_room_for_a_new_one(
    open_stage: "OpenStage", autojump_clock: object
) -> None:
    async with open_stage(policy=RestartPolicy(intensity=2, backoff_seconds=0.0)) as stage:
        ann, listener = await stage.enter("ann"), await stage.join(stage.person("tail", is_visible=False))
        bystander = await stage.enter("bob", room="attic")
        await stage.say("1")
        stage.engine.before["append"] = [BrokenError(f"{number}") for number in range(3)]
        for number in range(3):
            assert ann.disconnects == []
            await stage.say(f"bad {number}")
        gone = [(CloseCode.INTERNAL_ERROR, "room failed")]
        assert ann.disconnects == listener.disconnects == gone
        assert stage.log.events == ["room failed"] * 3 + ["room given up"]
        assert stage.log.lines[-1].fields["room"] == "den"
        with pytest.raises(ActorStoppedError):
            stage.refs["den"].tell_nowait(stage.leaving(ann))
        cat = await stage.join(stage.person("cat"), since=Position((await stage.position()).epoch, 0))
        assert cat.heard[1:] == [UserJoined("den", "cat", 1)]
        assert [event.content for event in cat.joined().events] == [b"1"]
        await stage.say("2")
        assert (cat.texts(), ann.texts()) == (["2"], ["1"])
        assert bystander.disconnects == []


async def test_questions_to_a_room_that_is_given_up_fail(
    open_stage: "OpenStage", autojump_clock: object
) -> None:
    async with open_stage(policy=RestartPolicy(intensity=0)) as stage:
        await stage.enter("ann")
        stage.engine.before["append"] = [BrokenError()]
        outcomes: list[type[BaseException]] = []

        async def ask() -> None:
            with trio.fail_after(10), pytest.raises(ActorError) as caught:
                await stage.rooms.publish("den", Draft(b"1"))
            outcomes.append(caught.type)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
        assert set(outcomes) <= {ActorFailedError, ActorStoppedError}
        reply: Reply[int] = Reply()
        await stage.tell(Remove("ann", reply))
        assert await reply.wait() == 0


async def test_stopping_rooms_empty_their_mailboxes(open_stage: "OpenStage", autojump_clock: object) -> None:
    async with open_stage() as stage:
        ann = await stage.enter("ann")
        ref = stage.refs["den"]
        for number in range(5):
            ref.tell_nowait(stage.chat(f"{number}", ann, number))
    assert ann.texts() == ["0", "1", "2", "3", "4"]
    assert len(ann.heard_of(Acknowledged)) == 5
