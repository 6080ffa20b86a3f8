"""The load figures of rooms."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest
import trio

from broker.engine.base import Receipt, Retention
from broker.errors import EngineUnavailableError
from broker.histograms import quantile_seconds
from broker.model import Draft
from tests.support.engines import LongWayEngine

if TYPE_CHECKING:
    from tests.rooms.conftest import OpenStage, Stage


class SlowEngine(LongWayEngine):
    """Takes three seconds to append."""

    async def append(self, room: str, drafts: Sequence[Draft], retention: Retention) -> Sequence[Receipt]:
        await trio.sleep(3)
        return await super().append(room, drafts, retention)


async def test_each_room_tells_its_size_and_how_much_it_has_said(stage: "Stage") -> None:
    await stage.enter("ann", room="a")
    await stage.say("1", "2", room="a")
    await stage.rooms.publish("b", Draft(b'{"type":"note"}', ephemeral=True))
    await stage.enter("bob", room="c")
    assert sorted(stage.rooms.loads()) == [("a", 1, 2), ("b", 0, 1), ("c", 1, 0)]


async def test_rooms_that_go_while_they_are_looked_at_do_no_harm(
    open_stage: "OpenStage", autojump_clock: object
) -> None:
    async with open_stage(idle_seconds=1.0) as stage:
        for room in ("a", "b"):
            await stage.rooms.publish(room, Draft(b'{"type":"note"}', ephemeral=True))
        loads = stage.rooms.loads()
        next(loads)
        await trio.sleep(10)
        assert stage.rooms.statistics().rooms == 0
        assert len(list(loads)) == 1
        assert list(stage.rooms.loads()) == []


async def test_the_delay_of_a_publish_is_from_its_append_to_the_end_of_its_fan_out(
    stage: "Stage", autojump_clock: object
) -> None:
    stage.engine.inner = SlowEngine(wall_clock=trio.current_time, idempotency_seconds=300)
    ann = await stage.enter("ann")
    delays = stage.rooms.tally.delays
    await stage.say("1", "2")
    await trio.sleep(2)
    assert sum(delays.snapshot()) == 0
    await trio.sleep(2)
    assert ann.texts() == ["1", "2"]
    assert sum(delays.snapshot()) == 2
    p99 = quantile_seconds(delays.snapshot(), 0.99)
    assert p99 is not None
    assert 3 <= p99 <= 3.6


async def test_a_refused_publish_is_not_in_the_delay_histogram(stage: "Stage") -> None:
    stage.engine.before["append"] = [EngineUnavailableError("engine is down")]
    with pytest.raises(EngineUnavailableError):
        await stage.rooms.publish("den", Draft(b'{"type":"note"}'))
    assert sum(stage.rooms.tally.delays.snapshot()) == 0
