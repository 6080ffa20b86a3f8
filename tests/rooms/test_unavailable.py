"""An engine that cannot serve: whoever asked is told, nobody is told what is not so, and the room lives."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
import trio

from broker.errors import EngineUnavailableError, ErrorCode
from broker.model import Draft, Position
from broker.notices import (
    Acknowledged,
    Failed,
    HistoryPage,
    Joined,
    Left,
    PresenceList,
    RoomEvent,
    UserJoined,
)
from broker.rooms.messages import Leave, SendHistory, SendPresence

if TYPE_CHECKING:
    from tests.rooms.conftest import OpenStage, Stage
    from tests.support.members import Person


def down() -> EngineUnavailableError:
    return EngineUnavailableError("engine is down", retry_after_ms=250)


def refusals(person: "Person") -> list[tuple[str, str, int | None, object]]:
    return [
        (failed.refused.code, failed.refused.message, failed.refused.retry_after_ms, failed.request_id)
        for failed in person.heard_of(Failed)
    ]


TOLD = (ErrorCode.UNAVAILABLE, "engine: unavailable", 250)


@pytest.fixture
async def healthy(stage: "Stage") -> "AsyncIterator[Stage]":
    """A stage whose rooms never failed when the test is over."""
    yield stage
    assert stage.log.lines == []


async def test_a_room_that_cannot_start_is_answered_for_and_starts_later(healthy: "Stage") -> None:
    stage = healthy
    stage.engine.before["position"] = [down(), down()]
    with pytest.raises(EngineUnavailableError, match="engine is down"):
        await stage.rooms.publish("den", Draft(b"{}"))
    ann = stage.person("ann")
    with pytest.raises(EngineUnavailableError):
        await stage.join(ann)
    assert ann.heard == []
    assert stage.rooms.statistics().rooms == 0
    assert stage.rooms.list_here(limit=10) == []
    await stage.join(ann)
    assert [type(notice) for notice in ann.heard] == [Joined, UserJoined]


async def test_each_sender_of_an_unstored_event_gets_unavailable(healthy: "Stage") -> None:
    stage = healthy
    ann, bob = await stage.enter("ann"), await stage.enter("bob")
    ann.forget()
    stage.engine.before["append"] = [down()]
    await stage.tell(
        stage.chat("1", ann, "a"), stage.chat("2", bob), stage.chat("3"), stage.chat("4", ann, ephemeral=True)
    )
    assert refusals(ann) == [(*TOLD, "a"), (*TOLD, None)]
    assert refusals(bob) == [(*TOLD, None)]
    assert len(ann.heard + bob.heard) == 3
    assert (await stage.position()).offset == 0
    await stage.tell(stage.chat("1", ann, "a"))
    assert (ann.offsets(), bob.offsets()) == ([1], [1])
    assert len(ann.heard_of(Acknowledged)) == 1


async def test_an_application_hears_that_nothing_was_stored(healthy: "Stage") -> None:
    stage = healthy
    stage.engine.before["append"] = [down()]
    with pytest.raises(EngineUnavailableError) as caught:
        await stage.rooms.publish("den", Draft(b"1"))
    assert caught.value.retry_after_ms == 250
    published = await stage.rooms.publish("den", Draft(b"1"))
    assert published.receipt.position == await stage.position()


async def test_a_join_whose_recovery_fails_adds_no_member(healthy: "Stage") -> None:
    stage = healthy
    ann, bob = await stage.enter("ann"), stage.person("bob")
    await stage.say("1")
    ann.forget()
    since = Position((await stage.position()).epoch, 0)
    stage.engine.before["read"] = [down()]
    with pytest.raises(EngineUnavailableError):
        await stage.join(bob, since=since)
    await stage.leave(bob)
    assert (ann.heard, bob.heard) == ([], [])
    assert (await stage.rooms.inspect("den")).room_size == 1
    await stage.join(bob, since=since)
    assert [event.offset for event in bob.joined().events] == [1]
    assert ann.heard == [UserJoined("den", "bob", 2)]


async def test_a_member_that_cannot_be_recovered_just_now_stays_in(healthy: "Stage") -> None:
    stage = healthy
    ann = await stage.enter("ann")
    stage.engine.before["read"] = [down()]
    with pytest.raises(EngineUnavailableError):
        await stage.join(ann, since=await stage.position())
    await stage.say("1")
    assert ann.texts() == ["1"]


async def test_history_is_refused(healthy: "Stage") -> None:
    stage = healthy
    ann = await stage.enter("ann")
    stage.engine.before["read"] = [down(), down()]
    await stage.tell(SendHistory(ann, None, 10, False, "r1"))
    assert refusals(ann) == [(*TOLD, "r1")]
    with pytest.raises(EngineUnavailableError):
        await stage.rooms.read("den", None, 10, reverse=False)
    await stage.tell(SendHistory(ann, None, 10, False, "r2"))
    assert [page.request_id for page in ann.heard_of(HistoryPage)] == ["r2"]


async def test_requests_without_the_engine_work_while_it_is_away(healthy: "Stage") -> None:
    stage = healthy
    ann = await stage.enter("ann")
    stage.engine.before = {call: [down() for _ in range(100)] for call in stage.engine.before}
    bob, cat = await stage.enter("bob"), await stage.enter("cat")
    await stage.tell(SendPresence(bob, 1), Leave(bob, is_answered=True))
    assert await stage.rooms.remove("den", "cat") == 1
    assert (await stage.rooms.inspect("den")).users == (("ann", 1),)
    assert [type(notice) for notice in bob.heard] == [UserJoined, PresenceList, Left]
    assert cat.heard[-1] == Left("den")
    assert len(ann.heard) == 4


async def test_a_stored_event_is_acknowledged_while_the_engine_cannot_be_read(
    healthy: "Stage", autojump_clock: object
) -> None:
    stage = healthy
    ann, bob = await stage.enter("ann"), await stage.enter("bob")
    await stage.append("other node's")
    stage.engine.before["read"] = [down()]
    await stage.tell(stage.chat("mine", ann, "a"), stage.chat("hey", ann, ephemeral=True))
    epoch = (await stage.position()).epoch
    assert ann.heard_of(Acknowledged) == [Acknowledged("den", Position(epoch, 2), "a")]
    assert (bob.texts(), bob.heard_of(Failed)) == (["hey"], [])
    # All is told as soon as the engine can be read, though nobody says anything.
    await trio.sleep(0.3)
    assert bob.texts() == ["hey", "other node's", "mine"]
    assert ann.texts() == ["hey", "other node's", "mine"]


async def test_the_room_asks_again_until_it_has_caught_up(healthy: "Stage", autojump_clock: object) -> None:
    stage = healthy
    ann = await stage.enter("ann")
    await stage.append("1")
    stage.engine.before["read"] = [down() for _ in range(6)]
    await stage.say("2")
    await stage.say("3")
    assert ann.heard == []
    assert len(stage.engine.before["read"]) == 4
    await trio.sleep(0.3)
    # Two publishes found that they could not, and one retry was set.
    assert len(stage.engine.before["read"]) == 3
    bob = await stage.enter("bob")
    await trio.sleep(5)
    assert ann.texts() == bob.texts() == ["1", "2", "3"]
    assert stage.engine.before["read"] == []
    reads = stage.engine.reads
    await trio.sleep(5)
    assert stage.engine.reads == reads
    await stage.say("4")
    assert ann.offsets() == [1, 2, 3, 4]


async def test_a_member_that_fails_while_the_engine_is_down_goes_alone(
    open_stage: "OpenStage", autojump_clock: object
) -> None:
    async with open_stage() as stage:
        ann, bob = await stage.enter("ann"), await stage.enter("bob")
        ann.outbox.faults = [LookupError("broken")]
        stage.engine.before["read"] = [down() for _ in range(50)]
        await stage.say("1")
        await stage.say("2")
        await trio.sleep(60)
        assert stage.log.events == ["delivery failed"]
        assert bob.offsets() == [1, 2]
        assert bob.disconnects == []
        assert len(ann.disconnects) == 1
        assert [type(notice) for notice in bob.heard] == [RoomEvent, RoomEvent]
