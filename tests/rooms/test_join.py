"""Coming into a room and going out of it: what the one who does hears, and what the others hear."""

from typing import TYPE_CHECKING

import pytest
import trio

from actors import Reply
from broker.model import Position
from broker.notices import Joined, Left, RoomEvent, UserJoined, UserLeft
from broker.rooms.messages import Join, Leave

if TYPE_CHECKING:
    from tests.rooms.conftest import OpenStage, Stage


async def test_a_newcomer_hears_joined_first_and_then_of_itself(stage: "Stage") -> None:
    ann = await stage.join(stage.person("ann"), request_id="r1")
    position = await stage.position()
    assert position.offset == 0
    assert ann.heard == [Joined("den", 1, position, False, (), "r1"), UserJoined("den", "ann", 1)]


async def test_all_members_get_a_join_and_a_leave(stage: "Stage") -> None:
    ann = await stage.enter("ann")
    bob = await stage.join(stage.person("bob"))
    assert ann.heard == [UserJoined("den", "bob", 2)]
    assert bob.heard[1:] == [UserJoined("den", "bob", 2)]
    ann.forget()
    bob.forget()
    await stage.tell(Leave(bob, is_answered=True, request_id=5))
    assert bob.heard == [Left("den", 5)]
    assert ann.heard == [UserLeft("den", "bob", 1)]


async def test_one_whose_connection_ended_is_told_nothing_more(stage: "Stage") -> None:
    ann, bob = await stage.enter("ann"), await stage.enter("bob")
    await stage.leave(bob)
    await stage.say("a")
    assert bob.heard == []
    assert ann.heard[:2] == [UserJoined("den", "bob", 2), UserLeft("den", "bob", 1)]


async def test_a_user_with_two_connections_is_told_of_twice(stage: "Stage") -> None:
    ann = await stage.enter("ann")
    bobs = [await stage.enter("bob"), await stage.enter("bob")]
    for bob in bobs:
        await stage.leave(bob)
    assert ann.heard == [
        UserJoined("den", "bob", 2),
        UserJoined("den", "bob", 3),
        UserLeft("den", "bob", 2),
        UserLeft("den", "bob", 1),
    ]


async def test_joining_again_is_answered_again_and_told_to_nobody(stage: "Stage") -> None:
    ann, bob = await stage.enter("ann"), await stage.enter("bob")
    ann.forget()
    await stage.say("a", "b")
    bob.forget()
    since = Position((await stage.position()).epoch, 1)
    await stage.join(bob, since=since, request_id=1)
    [joined] = bob.heard
    assert isinstance(joined, Joined)
    assert (joined.room_size, joined.position.offset, joined.is_recovered) == (2, 2, True)
    assert [event.content for event in joined.events] == [b"b"]
    assert ann.texts() == ["a", "b"]
    assert len(ann.heard) == 2
    await stage.leave(bob)
    assert ann.heard_of(UserLeft) == [UserLeft("den", "bob", 1)]


async def test_leaving_a_room_one_is_not_in_is_answered_and_told_to_nobody(stage: "Stage") -> None:
    ann, cat = await stage.enter("ann"), stage.person("cat")
    await stage.leave(cat, is_answered=True)
    await stage.leave(cat)
    assert cat.heard == [Left("den")]
    assert ann.heard == []


async def test_leaving_twice_is_told_once(stage: "Stage") -> None:
    ann, bob = await stage.enter("ann"), await stage.enter("bob")
    await stage.tell(Leave(bob), Leave(bob))
    assert ann.heard_of(UserLeft) == [UserLeft("den", "bob", 1)]


async def test_a_join_whose_asker_has_gone_is_undone_by_its_leave(stage: "Stage") -> None:
    ann, bob = await stage.enter("ann"), stage.person("bob")
    await stage.tell(Join(bob, None, None, Reply()), Leave(bob))
    assert ann.heard == [UserJoined("den", "bob", 2), UserLeft("den", "bob", 1)]


async def test_a_listener_hears_all_and_is_seen_by_none(stage: "Stage") -> None:
    ann = await stage.enter("ann")
    listener = await stage.join(stage.person("tail", is_visible=False))
    assert listener.joined().room_size == 1
    await stage.say("a")
    bob = await stage.enter("bob")
    await stage.leave(bob)
    assert listener.heard[1:] == ann.heard
    assert [type(notice) for notice in ann.heard] == [RoomEvent, UserJoined, UserLeft]
    info = await stage.rooms.inspect("den")
    assert (info.room_size, info.users) == (1, (("ann", 1),))
    await stage.leave(listener, is_answered=True)
    assert listener.heard[-1] == Left("den")
    assert len(ann.heard) == 3


@pytest.mark.parametrize("after", [0, 1, 2, 3])
async def test_a_returning_member_gets_the_missed_events(stage: "Stage", after: int) -> None:
    await stage.say("1", "2")
    await stage.say("3")
    epoch = (await stage.position()).epoch
    ann = await stage.join(stage.person("ann"), since=Position(epoch, after))
    joined = ann.joined()
    assert joined.is_recovered
    assert joined.position == Position(epoch, 3)
    assert [event.offset for event in joined.events] == list(range(after + 1, 4))
    assert [event.content.decode() for event in joined.events] == [str(n) for n in range(after + 1, 4)]
    await stage.say("4")
    assert ann.texts() == ["4"]


async def test_a_join_without_a_position_gets_the_position_of_the_room(stage: "Stage") -> None:
    await stage.say("1", "2")
    ann = await stage.join(stage.person("ann"))
    assert ann.joined().position == await stage.position()
    assert (ann.joined().is_recovered, ann.joined().events) == (False, ())


async def test_only_events_still_held_can_be_recovered(
    open_stage: "OpenStage", autojump_clock: object
) -> None:
    async with open_stage(messages=2) as stage:
        await stage.say("1", "2", "3", "4")
        epoch = (await stage.position()).epoch
        for after, recovered in ((0, None), (1, None), (2, [3, 4]), (3, [4]), (4, [])):
            ann = await stage.join(stage.person("ann"), since=Position(epoch, after))
            assert ann.joined().is_recovered == (recovered is not None)
            assert [event.offset for event in ann.joined().events] == (recovered or [])
            assert ann.joined().position == Position(epoch, 4)


async def test_without_history_only_members_that_missed_nothing_are_recovered(
    open_stage: "OpenStage", autojump_clock: object
) -> None:
    async with open_stage(messages=0) as stage:
        await stage.say("1")
        epoch = (await stage.position()).epoch
        for after, is_recovered in ((0, False), (1, True)):
            ann = await stage.join(stage.person("ann"), since=Position(epoch, after))
            assert (ann.joined().is_recovered, ann.joined().events) == (is_recovered, ())
        await stage.say("2")
        assert ann.texts() == ["2"]


@pytest.mark.parametrize("since", [Position("another", 0), Position("another", 1), Position("", 0)])
async def test_a_position_of_another_epoch_recovers_nothing(stage: "Stage", since: Position) -> None:
    await stage.say("1")
    ann = await stage.join(stage.person("ann"), since=since)
    assert (ann.joined().is_recovered, ann.joined().events) == (False, ())
    assert ann.joined().position == await stage.position()


async def test_a_position_that_the_room_has_not_come_to_recovers_nothing(stage: "Stage") -> None:
    await stage.say("1")
    epoch = (await stage.position()).epoch
    ann = await stage.join(stage.person("ann"), since=Position(epoch, 2))
    assert (ann.joined().is_recovered, ann.joined().events) == (False, ())
    assert ann.joined().position == Position(epoch, 1)


async def test_ephemeral_events_are_not_recovered(stage: "Stage") -> None:
    await stage.tell(stage.chat("1"), stage.chat("hey", ephemeral=True), stage.chat("2"))
    epoch = (await stage.position()).epoch
    ann = await stage.join(stage.person("ann"), since=Position(epoch, 0))
    assert [event.content for event in ann.joined().events] == [b"1", b"2"]


async def test_live_events_follow_the_recovered_ones_without_a_gap(stage: "Stage") -> None:
    """Joins and publishes in one batch, in every order."""
    epoch = (await stage.position()).epoch
    people = [stage.person(f"user {number}") for number in range(4)]
    joins = [Join(person, Position(epoch, 0), None, Reply()) for person in people]
    await stage.tell(
        joins[0],
        stage.chat("1"),
        joins[1],
        stage.chat("2"),
        stage.chat("3"),
        joins[2],
        stage.chat("4"),
        joins[3],
    )
    for person in people:
        recovered = [event.offset for event in person.joined().events]
        assert recovered + person.offsets() == [1, 2, 3, 4]
        assert isinstance(person.heard[0], Joined)


async def test_the_history_of_another_room_is_not_mixed_in(stage: "Stage") -> None:
    await stage.say("1", room="attic")
    ann = await stage.join(stage.person("ann"))
    await stage.join(ann, room="attic", since=Position((await stage.position("attic")).epoch, 0))
    den, attic = ann.heard_of(Joined)
    assert (den.room, den.events, den.position.offset) == ("den", (), 0)
    assert (attic.room, attic.position.offset, len(attic.events)) == ("attic", 1, 1)


async def test_a_join_is_answered_before_others_have_been_told(stage: "Stage") -> None:
    with trio.fail_after(60):
        await stage.join(stage.person("ann"))


async def test_much_that_was_missed_is_read_in_pages(open_stage: "OpenStage") -> None:
    async with open_stage(page_messages=2) as stage:
        ann = await stage.enter("ann")
        since = await stage.position()
        await stage.say("a", "b", "c", "d", "e")
        reads = stage.engine.reads
        bob = await stage.join(stage.person("bob"), since=since)
        assert [event.offset for event in bob.joined().events] == [1, 2, 3, 4, 5]
        assert bob.joined().is_recovered
        assert stage.engine.reads - reads == 3
        assert ann.offsets() == [1, 2, 3, 4, 5]


async def test_more_than_one_message_may_hold_is_not_recovered(open_stage: "OpenStage") -> None:
    async with open_stage(page_messages=2, recovery_bytes=60) as stage:
        since = await stage.position()
        await stage.say("a" * 25, "b" * 25, "c" * 25)
        bob = await stage.join(stage.person("bob"), since=since)
        assert not bob.joined().is_recovered
        assert bob.joined().events == ()
        later = Position(since.epoch, 2)
        eve = await stage.join(stage.person("eve"), since=later)
        assert [event.offset for event in eve.joined().events] == [3]


async def test_a_position_that_was_never_reached_is_not_recovered(stage: "Stage") -> None:
    position = await stage.position()
    bob = await stage.join(stage.person("bob"), since=Position(position.epoch, 7))
    assert not bob.joined().is_recovered
