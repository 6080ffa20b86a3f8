"""An event has the header of its draft, whichever way it comes: by receipt, by feed, or read."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.engine.base import Retention
from broker.model import Draft, Event, EventHeader
from tests.engine.redis.opened import Ear, when_served
from tests.support.drafts import tagged_drafts
from tests.support.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.engine.contract.conftest import OpenEngine, Wall

KEEP_ALL = Retention(1000, 1 << 30, 86_400.0)


Known = list[tuple[bytes, EventHeader]]


def known(events: Sequence[Draft | Event]) -> Known:
    return [(event.content, event.header) for event in events]


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(batch=st.lists(tagged_drafts(), min_size=1, max_size=5), last=tagged_drafts())
async def test_events_have_the_headers_of_their_drafts(
    open_engine_under_test: "OpenEngine", wall: "Wall", batch: list[Draft], last: Draft
) -> None:
    published = [*batch, last]
    stored = known([draft for draft in published if not draft.ephemeral])
    with trio.fail_after(PATIENCE_SECONDS):
        async with open_engine_under_test(wall) as engine:
            ear, feed = Ear(), engine.feed
            if feed is not None:
                await when_served(partial(feed.subscribe, "den", ear))
            receipts = list(await engine.append("den", batch, KEEP_ALL))
            receipt = engine.append_nowait("den", last, KEEP_ALL, await engine.position("den"))
            receipts += [receipt] if receipt is not None else await engine.append("den", [last], KEEP_ALL)
            assert known([each.event for each in receipts if each.event is not None]) == known(published)
            assert known((await engine.read("den")).events) == stored
            assert known((await engine.read("den", reverse=True)).events) == stored[::-1]
            if feed is not None:
                await ear.wait(lambda: len(ear.heard) >= len(published))
                assert known([event for _, event in ear.heard]) == known(published)
