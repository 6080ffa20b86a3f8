"""Pages of a room's past, for a member and for the application."""

from typing import TYPE_CHECKING

import pytest
import trio

from broker.model import Position
from broker.notices import HistoryPage
from broker.rooms.messages import SendHistory

if TYPE_CHECKING:
    from tests.rooms.conftest import OpenStage, Stage

PAGES = [
    (None, 10, False, [1, 2, 3, 4, 5]),
    (None, 2, False, [1, 2]),
    (None, 2, True, [5, 4]),
    (2, 10, False, [3, 4, 5]),
    (2, 2, False, [3, 4]),
    (2, 10, True, [5, 4, 3]),
    (2, 1, True, [5]),
    (5, 10, False, []),
    (9, 10, False, []),
]


@pytest.mark.parametrize(("after", "limit", "reverse", "offsets"), PAGES)
async def test_a_page_of_history(
    stage: "Stage", after: int | None, limit: int, reverse: bool, offsets: list[int]
) -> None:
    ann = await stage.enter("ann")
    await stage.say("1", "2", "3", "4", "5")
    ann.forget()
    position = await stage.position()
    since = None if after is None else Position(position.epoch, after)
    await stage.tell(SendHistory(ann, since, limit, reverse, "r1"))
    [page] = ann.heard_of(HistoryPage)
    assert (page.room, page.position, page.request_id) == ("den", position, "r1")
    assert [event.offset for event in page.events] == offsets
    run = await stage.rooms.read("den", since, limit, reverse=reverse)
    assert (run.events, run.position) == (page.events, position)


@pytest.mark.parametrize("offset", [0, 1, 99])
async def test_all_events_are_new_after_a_change_of_epoch(stage: "Stage", offset: int) -> None:
    await stage.say("1", "2")
    run = await stage.rooms.read("den", Position("another", offset), 10, reverse=False)
    assert [event.offset for event in run.events] == [1, 2]
    assert not run.can_continue(Position("another", offset))


async def test_the_engine_is_asked_for_no_more_than_the_page(stage: "Stage") -> None:
    await stage.say("1", "2", "3")
    run = await stage.rooms.read("den", None, 1, reverse=False)
    assert (len(run.events), stage.engine.reads) == (1, 1)


async def test_one_whose_room_was_forgotten_gets_the_new_history(
    open_stage: "OpenStage", autojump_clock: object
) -> None:
    """The engine may forget a room that is still in memory here."""
    async with open_stage(age_seconds=10.0) as stage:
        ann = await stage.enter("ann")
        await stage.say("1", "2", "3")
        seen = await stage.position()
        await trio.sleep(400)
        await stage.append("x", room="other")
        await stage.append("4", "5")
        run = await stage.rooms.read("den", seen, 10, reverse=False)
        assert [event.content for event in run.events] == [b"4", b"5"]
        assert run.position.epoch != seen.epoch
        ann.forget()
        await stage.tell(SendHistory(ann, seen, 10, True, None))
        [page] = ann.heard_of(HistoryPage)
        assert [event.content for event in page.events] == [b"5", b"4"]
