"""Presence in a room: lists, batched changes, and removal by the application."""

from itertools import pairwise
from typing import TYPE_CHECKING

import trio
from trio.testing import wait_all_tasks_blocked

from broker.notices import Left, Notice, PresenceChanged, PresenceList, UserJoined, UserLeft
from broker.rooms.messages import RoomInfo, SendPresence, SendPresenceBatch

if TYPE_CHECKING:
    from tests.rooms.conftest import OpenStage, Stage
    from tests.support.members import Person


async def test_presence_lists_users_with_their_connections(stage: "Stage") -> None:
    ann, *_ = [await stage.enter(user) for user in ("ann", "bob", "ann")]
    ann.forget()
    await stage.tell(SendPresence(ann, "r1"))
    assert ann.heard == [PresenceList("den", 3, (("ann", 2), ("bob", 1)), "r1")]


async def test_an_application_sees_users_size_and_position(stage: "Stage") -> None:
    nobody = PresenceList("den", 0, ())
    assert await stage.rooms.inspect("den") == RoomInfo("den", 0, await stage.position(), (), nobody)
    await stage.enter("ann")
    await stage.say("1")
    ann = (("ann", 1),)
    assert await stage.rooms.inspect("den") == RoomInfo(
        "den", 1, await stage.position(), ann, PresenceList("den", 1, ann)
    )


async def test_a_removed_user_leaves_with_all_connections(stage: "Stage") -> None:
    ann, bob, ann_too = [await stage.enter(user) for user in ("ann", "bob", "ann")]
    for person in (ann, bob, ann_too):
        person.forget()
    assert await stage.rooms.remove("den", "ann") == 2
    assert ann.heard == [Left("den")]
    assert ann_too.heard == [UserLeft("den", "ann", 2), Left("den")]
    assert bob.heard == [UserLeft("den", "ann", 2), UserLeft("den", "ann", 1)]
    assert (ann.removals, ann_too.removals, bob.removals) == (["den"], ["den"], [])
    # Their connections end or not as they like; the leave that may follow is told to nobody.
    await stage.leave(ann)
    assert len(bob.heard) == 2
    assert await stage.rooms.remove("den", "ann") == 0


async def test_a_listener_is_not_removed_with_its_users_connections(stage: "Stage") -> None:
    listener = await stage.join(stage.person("ann", is_visible=False))
    await stage.enter("ann")
    assert await stage.rooms.remove("den", "ann") == 1
    await stage.say("1")
    assert listener.texts() == ["1"]


def changes(person: "Person") -> list[Notice]:
    return [n for n in person.heard if isinstance(n, UserJoined | UserLeft | PresenceChanged)]


async def test_above_a_size_changes_are_gathered_and_told_once_a_second(
    open_stage: "OpenStage", autojump_clock: object
) -> None:
    async with open_stage(gather_above=2, gather_seconds=1.0) as stage:
        ann, bob = await stage.enter("ann"), await stage.enter("bob")
        ann.forget()
        cat, dan = await stage.join(stage.person("cat")), await stage.join(stage.person("dan"))
        await stage.leave(bob)
        assert (changes(ann), changes(dan)) == ([], [])
        assert (cat.joined().room_size, dan.joined().room_size) == (3, 4)
        await trio.sleep(1.01)
        gathered: list[Notice] = [PresenceChanged("den", ("cat", "dan"), ("bob",), 3)]
        assert changes(ann) == changes(cat) == changes(dan) == gathered
        await trio.sleep(10)
        assert changes(ann) == gathered


async def test_a_room_that_goes_up_and_down_over_the_size_tells_no_more_than_once_a_second(
    open_stage: "OpenStage", autojump_clock: object
) -> None:
    async with open_stage(gather_above=1, gather_seconds=1.0) as stage:
        ann = await stage.enter("ann")
        for _ in range(40):
            bob = await stage.enter("bob")
            await stage.leave(bob)
            await trio.sleep(0.2)
        await trio.sleep(2)
        told_at = [
            at
            for at, told in zip(ann.outbox.heard_at, ann.heard, strict=True)
            if isinstance(told, PresenceChanged)
        ]
        assert len(told_at) >= 6
        assert all(later - sooner > 0.999 for sooner, later in pairwise(told_at))
        joined = [user for notice in ann.heard_of(PresenceChanged) for user in notice.joined]
        left = [user for notice in ann.heard_of(PresenceChanged) for user in notice.left]
        assert len(joined + list(ann.heard_of(UserJoined))) == 40
        assert len(left + list(ann.heard_of(UserLeft))) == 40
        assert changes(ann)[-1].room_size == 1  # type: ignore[union-attr]


async def test_a_gathering_goes_on_over_a_failure_of_the_room_and_is_not_told_too_soon(
    open_stage: "OpenStage", autojump_clock: object
) -> None:
    async with open_stage(gather_above=0, gather_seconds=1.0) as stage:
        ann = await stage.enter("ann")
        await trio.sleep(0.5)
        # The old timer's message waits behind what makes the room fail.
        stage.engine.before["append"] = [LookupError("broken")]
        await stage.tell(stage.chat("1"), SendPresenceBatch())
        assert changes(ann) == []
        await trio.sleep(0.9)
        bob = await stage.enter("bob")
        assert changes(ann) == []
        await trio.sleep(0.2)
        assert changes(ann) == [PresenceChanged("den", ("ann", "bob"), (), 2)]
        await stage.leave(bob)
        await trio.sleep(0.9)
        assert len(changes(ann)) == 1
        await trio.sleep(0.2)
        assert changes(ann)[1:] == [PresenceChanged("den", (), ("bob",), 1)]


async def test_a_large_rooms_joins_and_leaves_cost_each_member_little(
    open_stage: "OpenStage", autojump_clock: object
) -> None:
    people = 300
    async with open_stage(gather_above=10) as stage:
        everyone = [stage.person(f"user {number}") for number in range(people)]
        for person in everyone:
            await stage.join(person)
        await trio.sleep(2)
        await stage.tell(*[stage.leaving(person) for person in everyone[10:]])
        await trio.sleep(2)
        assert sum(len(person.heard) for person in everyone) < 20 * people
        first = changes(everyone[0])
        assert [n.room_size for n in first[-2:]] == [people, 10]  # type: ignore[union-attr]


async def test_nobody_is_left_to_be_told(open_stage: "OpenStage", autojump_clock: object) -> None:
    async with open_stage(gather_above=0, idle_seconds=4.0) as stage:
        ann = await stage.enter("ann")
        await stage.leave(ann)
        await trio.sleep(20)
        await wait_all_tasks_blocked()
        assert stage.rooms.statistics().rooms == 0
