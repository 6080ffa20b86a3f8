"""All rooms of a node: found by name, listed, counted, put away and brought back."""

from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from actors import ActorStoppedError
from broker.config.settings import HistorySettings, RoomRule, Settings
from broker.engine.base import Retention
from broker.errors import ErrorCode, Refused
from broker.model import Draft
from broker.notices import UserJoined
from broker.rooms.directory import retention_for

if TYPE_CHECKING:
    from tests.rooms.conftest import OpenStage, Stage


async def names(stage: "Stage", *, prefix: str = "", after: str = "", limit: int = 100) -> list[str]:
    return [info.room for info in stage.rooms.list_here(prefix=prefix, after=after, limit=limit)]


async def test_rooms_are_listed_by_name_page_by_page(stage: "Stage") -> None:
    for name in ("b", "a", "team.2", "c", "team.1"):
        await stage.enter("ann", room=name)
    assert await names(stage) == ["a", "b", "c", "team.1", "team.2"]
    assert await names(stage, limit=2) == ["a", "b"]
    assert await names(stage, after="b", limit=2) == ["c", "team.1"]
    assert await names(stage, prefix="team.") == ["team.1", "team.2"]
    assert await names(stage, prefix="team.", after="team.1") == ["team.2"]
    assert await names(stage, after="zzz") == []


async def test_a_listed_room_tells_of_itself(stage: "Stage") -> None:
    await stage.enter("ann")
    await stage.say("1")
    [info] = stage.rooms.list_here(limit=1)
    assert info == attrs.evolve(await stage.rooms.inspect("den"), presence=None)
    assert (info.room_size, info.position.offset, info.users) == (1, 1, (("ann", 1),))


async def test_an_empty_room_is_put_away_and_comes_back_where_it_was(
    open_stage: "OpenStage", autojump_clock: object
) -> None:
    async with open_stage(idle_seconds=4.0) as stage:
        ann = await stage.enter("ann")
        await stage.say("1", "2")
        before = await stage.rooms.inspect("den")
        await trio.sleep(20)
        assert await names(stage) == ["den"]
        await stage.leave(ann)
        await trio.sleep(20)
        assert await names(stage) == []
        statistics = stage.rooms.statistics()
        assert (statistics.rooms, statistics.members, statistics.registry.passivated) == (0, 0, 1)
        bob = await stage.join(stage.person("bob"), since=before.position)
        assert bob.joined().is_recovered
        assert bob.joined().position == before.position
        assert bob.heard[1:] == [UserJoined("den", "bob", 1)]
        await stage.say("3")
        assert bob.offsets() == [3]


async def test_a_room_with_a_listener_stays(open_stage: "OpenStage", autojump_clock: object) -> None:
    async with open_stage(idle_seconds=4.0) as stage:
        listener = await stage.join(stage.person("tail", is_visible=False))
        await trio.sleep(20)
        await stage.say("1")
        assert listener.texts() == ["1"]
        assert stage.rooms.statistics().registry.started == 1


async def test_statistics_count_deliveries(open_stage: "OpenStage", autojump_clock: object) -> None:
    async with open_stage(idle_seconds=4.0) as stage:
        ann, bob = await stage.enter("ann"), await stage.enter("bob")
        await stage.enter("ann", room="attic")
        before = stage.rooms.statistics()
        assert (before.rooms, before.members) == (2, 3)
        bob.outbox.is_full = True
        await stage.tell(stage.chat("1", ann, 1), stage.chat("2"))
        after = stage.rooms.statistics()
        assert after.deliveries == before.deliveries + 4
        assert after.deliveries_lost == before.deliveries_lost + 2
        assert bob.outbox.losses == [("den", (1, 2))]
        await stage.leave(ann)
        await stage.leave(bob)
        await trio.sleep(20)
        assert stage.rooms.statistics().rooms == 1
        # Counters do not go back when a room goes.
        assert stage.rooms.statistics().deliveries >= after.deliveries


async def test_nothing_starts_once_the_rooms_are_closing(
    open_stage: "OpenStage", autojump_clock: object
) -> None:
    async with open_stage() as stage:
        await stage.enter("ann")
        rooms = stage.rooms
    with pytest.raises(ActorStoppedError):
        await rooms.publish("attic", Draft(b"1"))
    with pytest.raises(ActorStoppedError):
        await rooms.publish("den", Draft(b"1"))


def test_the_first_rule_for_a_room_says_how_much_is_kept() -> None:
    settings = Settings(
        history=HistorySettings(messages=10, bytes=1000, age_seconds=60.0),
        rooms=(
            RoomRule(pattern="team.*", history_messages=5),
            RoomRule(pattern="team.1", history_messages=7),
            RoomRule(pattern="big.*", history_bytes=0, history_age_seconds=0.0),
        ),
    )
    assert retention_for(settings, "lobby") == Retention(10, 1000, 60.0)
    assert retention_for(settings, "team.1") == Retention(5, 1000, 60.0)
    assert retention_for(settings, "big.1") == Retention(10, 0, 0.0)


async def test_the_rule_of_a_room_bounds_its_history(open_stage: "OpenStage", autojump_clock: object) -> None:
    async with open_stage(rules=(RoomRule(pattern="short.*", history_messages=1),)) as stage:
        for room, kept in (("short.1", 1), ("long", 3)):
            await stage.say("1", "2", "3", room=room)
            run = await stage.rooms.read(room, None, 10, reverse=False)
            assert len(run.events) == kept


async def test_a_room_that_is_idle_makes_way_for_another_before_its_time(open_stage: "OpenStage") -> None:
    async with open_stage(most_rooms=3) as stage:
        await stage.enter("ann", room="kept")
        for number in range(200):
            await stage.rooms.publish(f"passing {number}", Draft(b"{}"))
            assert stage.rooms.statistics().rooms <= 3 + 1, "one may be on its way out"
        assert "kept" in await names(stage)
        await stage.say("x", room="kept")


async def test_no_more_rooms_come_up_than_may_be_until_one_is_left(open_stage: "OpenStage") -> None:
    async with open_stage(most_rooms=2) as stage:
        ann = await stage.enter("ann", room="a")
        await stage.enter("ann", room="b")
        for ask in (
            lambda: stage.rooms.publish("c", Draft(b"{}")),
            lambda: stage.join(stage.person("bob"), room="c"),
        ):
            with pytest.raises(Refused) as refusal:
                await ask()
            assert (refusal.value.code, bool(refusal.value.retry_after_ms)) == (ErrorCode.UNAVAILABLE, True)
        assert await names(stage) == ["a", "b"]
        await stage.join(stage.person("bob"), room="b")
        await stage.say("1", room="a")
        await stage.leave(ann, room="a")
        await stage.join(stage.person("bob"), room="c")
        assert await names(stage) == ["b", "c"]


async def test_a_look_at_a_room_that_is_not_up_makes_none(open_stage: "OpenStage") -> None:
    async with open_stage(most_rooms=1) as stage:
        await stage.enter("ann", room="a")
        info = await stage.rooms.inspect("c")
        assert (info.room_size, info.position.offset, info.users) == (0, 0, ())
        assert (await stage.rooms.read("c", None, 10, reverse=False)).events == ()
        assert await stage.rooms.remove("c", "ann") == 0
        assert await stage.rooms.clear("c") == 0
        assert await names(stage) == ["a"]
        assert stage.rooms.statistics().rooms == 1


async def test_one_who_looked_at_a_room_that_is_not_up_can_go_on_from_there(open_stage: "OpenStage") -> None:
    async with open_stage() as stage:
        before = (await stage.rooms.inspect("den")).position
        await stage.say("1")
        run = await stage.rooms.read("den", before, 10, reverse=False)
        assert (run.can_continue(before), len(run.events)) == (True, 1)
