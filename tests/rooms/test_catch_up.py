"""An engine that has moved ahead of the room: what others appended is told in its place, and what is lost is said."""

from typing import TYPE_CHECKING

import trio
from hypothesis import given
from hypothesis import strategies as st

from broker.engine.base import Run
from broker.model import Event, Position
from broker.notices import Acknowledged, Gap, RoomEvent
from broker.rooms.recovery import missed_notices

if TYPE_CHECKING:
    from tests.rooms.conftest import OpenStage, Stage


async def test_events_of_another_node_are_delivered_in_their_place(stage: "Stage") -> None:
    ann, bob = await stage.enter("ann"), await stage.enter("bob")
    await stage.say("1")
    await stage.append("2", "3")
    await stage.tell(stage.chat("4", bob, "b"), stage.chat("hey", ephemeral=True))
    assert ann.texts() == bob.texts() == ["1", "2", "3", "4", "hey"]
    assert ann.offsets() == [1, 2, 3, 4, None]
    assert [ack.position for ack in bob.heard_of(Acknowledged)] == [
        Position((await stage.position()).epoch, 4)
    ]
    assert isinstance(bob.heard[-1], Acknowledged)
    await stage.say("5")
    assert ann.offsets() == [1, 2, 3, 4, None, 5]


async def test_a_new_member_gets_undelivered_events_once(stage: "Stage") -> None:
    ann = await stage.enter("ann")
    await stage.append("1", "2")
    epoch = (await stage.position()).epoch
    bob = await stage.join(stage.person("bob"))
    cat = await stage.join(stage.person("cat"), since=Position(epoch, 0))
    assert bob.joined().position == cat.joined().position == Position(epoch, 0)
    assert cat.joined().is_recovered
    await stage.say("3")
    assert ann.offsets() == bob.offsets() == cat.offsets() == [1, 2, 3]


async def test_a_member_ahead_of_the_room_gets_nothing_twice(stage: "Stage") -> None:
    """It was connected to another node."""
    ann = await stage.enter("ann")
    await stage.append("1", "2", "3")
    epoch = (await stage.position()).epoch
    bob = await stage.join(stage.person("bob"), since=Position(epoch, 2))
    assert bob.joined().is_recovered
    assert [event.offset for event in bob.joined().events] == [3]
    assert bob.joined().position == Position(epoch, 3)
    assert ann.offsets() == [1, 2, 3]
    await stage.say("4")
    assert bob.offsets() == [4]
    assert ann.offsets() == [1, 2, 3, 4]


async def test_events_trimmed_before_their_delivery_are_a_gap(
    open_stage: "OpenStage", autojump_clock: object
) -> None:
    async with open_stage(messages=2) as stage:
        ann = await stage.enter("ann")
        await stage.say("1")
        await stage.append("2", "3", "4")
        await stage.say("5")
        assert ann.heard[1:2] == [Gap("den", 2, 3)]
        assert ann.texts() == ["1", "4", "5"]
        await stage.say("6")
        assert ann.offsets() == [1, 4, 5, 6]


async def test_without_history_the_rooms_own_events_are_told_and_others_are_a_gap(
    open_stage: "OpenStage", autojump_clock: object
) -> None:
    async with open_stage(messages=0) as stage:
        ann = await stage.enter("ann")
        await stage.append("1", "2")
        await stage.tell(stage.chat("3"), stage.chat("4"))
        assert ann.heard[:1] == [Gap("den", 1, 2)]
        assert ann.texts() == ["3", "4"]
        assert ann.offsets() == [3, 4]


async def forget_the_room(stage: "Stage") -> None:
    """Let the engine forget the room, as it may when nothing was said for long enough."""
    await trio.sleep(400)
    await stage.append("x", room="other")


async def test_a_new_epoch_begins_at_its_first_event(open_stage: "OpenStage", autojump_clock: object) -> None:
    async with open_stage(age_seconds=10.0) as stage:
        ann = await stage.enter("ann")
        await stage.say("1", "2", "3")
        old = await stage.position()
        await forget_the_room(stage)
        await stage.say("4")
        await stage.say("5")
        assert ann.offsets() == [1, 2, 3, 1, 2]
        new = await stage.position()
        assert [said.epoch for said in ann.heard_of(RoomEvent)] == [old.epoch] * 3 + [new.epoch] * 2
        bob = await stage.join(stage.person("bob"), since=old)
        assert (bob.joined().is_recovered, bob.joined().position) == (False, new)


async def test_a_new_epoch_is_told_from_its_beginning_also_where_the_old_one_was(
    open_stage: "OpenStage", autojump_clock: object
) -> None:
    async with open_stage(age_seconds=10.0) as stage:
        ann = await stage.enter("ann")
        await stage.say("1")
        await forget_the_room(stage)
        await stage.append("2")
        # Its offset would follow on what was told, but in another epoch.
        await stage.say("3")
        assert ann.texts() == ["1", "2", "3"]
        assert ann.offsets() == [1, 1, 2]


async def test_a_forgotten_room_without_history_delivers_new_events(
    open_stage: "OpenStage", autojump_clock: object
) -> None:
    async with open_stage(messages=0, age_seconds=0.0) as stage:
        ann = await stage.enter("ann")
        await stage.say("1", "2")
        await forget_the_room(stage)
        await stage.tell(stage.chat("3", ann, "a"))
        assert ann.texts() == ["1", "2", "3"]
        assert ann.offsets() == [1, 2, 1]
        assert ann.heard[-1] == Acknowledged("den", await stage.position(), "a")


async def test_a_join_with_the_new_epoch_is_recovered(
    open_stage: "OpenStage", autojump_clock: object
) -> None:
    """Another node has told it of the new epoch, of which this one has not heard yet."""
    async with open_stage(age_seconds=10.0) as stage:
        ann = await stage.enter("ann")
        await stage.say("1")
        await forget_the_room(stage)
        await stage.append("2", "3")
        new = await stage.position()
        bob = await stage.join(stage.person("bob"), since=Position(new.epoch, 1))
        assert bob.joined().is_recovered
        assert [event.content for event in bob.joined().events] == [b"3"]
        assert ann.texts() == ["1", "2", "3"]


async def test_a_room_that_was_put_away_says_nothing_twice(
    open_stage: "OpenStage", autojump_clock: object
) -> None:
    async with open_stage(idle_seconds=4.0) as stage:
        await stage.say("1")
        await trio.sleep(60)
        await stage.append("2")
        ann = await stage.enter("ann")
        await stage.say("3")
        assert ann.offsets() == [3]


@given(
    told=st.integers(0, 6),
    trimmed=st.integers(0, 8),
    held=st.integers(0, 6),
    own=st.sets(st.integers(1, 14)),
    is_new_epoch=st.booleans(),
)
def test_every_offset_is_told_once_in_order_or_said_to_be_gone(
    told: int, trimmed: int, held: int, own: set[int], is_new_epoch: bool
) -> None:
    last = trimmed + held
    events = {offset: Event(b"%d" % offset, 0, offset) for offset in range(1, last + 1)}
    run = Run(
        Position("e", last), trimmed + 1, tuple(events[offset] for offset in range(trimmed + 1, last + 1))
    )
    mine = [RoomEvent("den", "e", events[offset]) for offset in sorted(own) if offset <= last]
    others = [RoomEvent("den", "f", Event(b"", 0, 1))]
    begin = 0 if is_new_epoch else told
    told_notices = missed_notices("den", Position("f" if is_new_epoch else "e", told), run, [*mine, *others])
    expected = begin + 1
    known = own | set(range(trimmed + 1, last + 1))
    for notice in told_notices:
        if isinstance(notice, Gap):
            assert (notice.room, notice.first) == ("den", expected)
            assert notice.last >= notice.first
            assert known.isdisjoint(range(notice.first, notice.last + 1))
            expected = notice.last + 1
        else:
            assert notice == RoomEvent("den", "e", events[expected])
            expected += 1
    assert expected == max(begin, last) + 1
