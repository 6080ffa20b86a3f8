"""A join with `last`: the newest events that are held, and the next one behind them."""

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.model import Position
from broker.rooms.recovery import EVENT_BYTES

if TYPE_CHECKING:
    from tests.rooms.conftest import OpenStage, Stage

# Of the steps of a room's life: a publish here, a publish on another node, and the deletion of the history.
steps = st.lists(st.sampled_from(["here", "elsewhere", "clear"]), max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(before=steps, last=st.integers(1, 8), kept=st.integers(2, 9), page=st.integers(1, 9))
async def test_the_newest_events_come_with_the_join_and_all_later_ones_follow(
    open_stage: "OpenStage", before: list[str], last: int, kept: int, page: int
) -> None:
    async with open_stage(messages=kept, page_messages=page) as stage:
        ann = await stage.enter("ann")
        count = held = 0
        for step in before:
            if step == "clear":
                await stage.rooms.clear("den")
                held = 0
                continue
            count += 1
            held = min(held + 1, kept)
            await (stage.say if step == "here" else stage.append)(str(count))
        bob = await stage.join(stage.person("bob"), last=last)
        joined = bob.joined()
        shown = min(last, held, page)
        assert [event.offset for event in joined.events] == list(range(count - shown + 1, count + 1))
        assert (joined.position.offset, joined.is_recovered) == (count, False)
        await stage.append("elsewhere")
        await stage.say("here")
        offsets = [event.offset for event in joined.events] + bob.offsets()
        assert offsets == list(range(offsets[0] or 0, count + 3)), "none is missing, and none comes twice"
        assert ann.texts()[-1] == "here"


async def test_no_more_than_a_page_of_bytes_comes_and_the_newest_at_least(open_stage: "OpenStage") -> None:
    size = EVENT_BYTES + 4 * len("den") + 100
    async with open_stage(page_bytes=3 * size) as stage:
        await stage.say(*[str(number) * 100 for number in range(1, 8)])
        ann = await stage.join(stage.person("ann"), last=7)
        assert [event.offset for event in ann.joined().events] == [5, 6, 7]
        await stage.say("x" * 4 * size)
        bob = await stage.join(stage.person("bob"), last=7)
        assert [event.offset for event in bob.joined().events] == [8]
        assert bob.joined().position == Position((await stage.position()).epoch, 8)


async def test_a_member_that_joins_again_gets_them_again(stage: "Stage") -> None:
    ann = await stage.enter("ann")
    await stage.say("1", "2", "3")
    ann.forget()
    await stage.join(ann, last=2)
    assert [event.offset for event in ann.joined().events] == [2, 3]
