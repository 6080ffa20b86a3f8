"""The token bucket against the law it stands for."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from broker.config.settings import LimitSettings
from broker.errors import Refused
from broker.protocol.commands import History, Join, Presence, Since
from broker.sessions.allowance import Allowances
from broker.sessions.answer_cost import cost_of
from broker.sessions.message_rate import MessageRate
from broker.sessions.rate import TokenBucket
from tests.support.node import OpenNode, make_settings

GAPS = st.lists(st.floats(0, 3), min_size=1, max_size=60)


@given(st.floats(0.1, 100), st.integers(1, 20), GAPS)
def test_no_span_of_time_sees_more_than_its_share_and_the_burst(
    rate: float, burst: int, gaps: list[float]
) -> None:
    now, bucket = 5.0, TokenBucket(rate, burst, 5.0)
    passed: list[float] = []
    for gap in gaps:
        now += gap
        if bucket.take(now) == 0:
            passed.append(now)
    for i, first in enumerate(passed):
        for j, last in enumerate(passed[i:], start=1):
            assert j <= burst + (last - first) * rate + 1e-6


@given(st.floats(0.1, 100), st.integers(1, 20), GAPS)
def test_a_client_that_waits_for_retry_after_is_accepted(rate: float, burst: int, gaps: list[float]) -> None:
    now, bucket = 0.0, TokenBucket(rate, burst, 0.0)
    for gap in gaps:
        now += gap
        wait_seconds = bucket.take(now)
        assert wait_seconds >= 0
        if wait_seconds:
            assert wait_seconds <= 1 / rate + 1e-9
            assert TokenBucket.take(bucket, now + wait_seconds * 0.5) > 0, "less would not have been enough"
            now += wait_seconds + 1e-6
            assert bucket.take(now) == 0


@given(st.floats(0.1, 1000), st.integers(1, 50))
def test_a_burst_passes_at_once_and_no_more(rate: float, burst: int) -> None:
    bucket = TokenBucket(rate, burst, 100.0)
    assert [bucket.take(100.0) for _ in range(burst)] == [0.0] * burst
    assert bucket.take(100.0) == pytest.approx(1 / rate)
    # However long the silence, it earns one burst.
    later = 100.0 + 10 * burst / rate
    assert [bucket.take(later) for _ in range(burst)] == [0.0] * burst
    assert bucket.take(later) > 0


@given(st.floats(0.1, 100), st.integers(1, 20), st.floats(0, 60), GAPS)
def test_a_delayed_client_may_catch_up_once(
    rate: float, burst: int, held_seconds: float, gaps: list[float]
) -> None:
    bucket = TokenBucket(rate, burst, 0.0)
    for _ in range(burst):
        assert bucket.take(0.0) == 0
    bucket.credit_elapsed(held_seconds)
    now = held_seconds
    passed = sum(bucket.take(now) == 0 for _ in range(int(held_seconds * rate) + 5))
    assert passed == pytest.approx(int(held_seconds * rate), abs=1), (
        "as many as were due, above the burst too"
    )
    # And from then on it is like any other.
    started, late = now, 0
    for gap in gaps:
        now += gap
        late += bucket.take(now) == 0
    assert late <= burst + 1 + (now - started) * rate


@pytest.mark.parametrize(
    ("command", "cost"),
    [
        (History(), 11),
        (History(limit=1), 2),
        (History(limit=100), 2),
        (History(limit=101), 3),
        (History(limit=10**9), 11),
        (Join(room="r"), 1),
        (Join(room="r", since=Since(0, "e")), 1),
        (Join(room="r", last=50), 2),
        (Join(room="r", last=10**9, presence="user"), 15),
        (Join(room="r", presence="count"), 1),
        (Presence(by="count"), 1),
        (Presence(), 5),
        (Presence(by="connection"), 5),
    ],
    ids=repr,
)
def test_a_request_counts_by_what_its_answer_may_hold(command: Join | Presence | History, cost: int) -> None:
    assert cost_of(command, page_messages=1000, events_per_message=100) == cost


@given(st.integers(1, 20), st.lists(st.tuples(st.integers(1, 30), st.floats(0, 3)), min_size=1, max_size=30))
def test_costs_are_bounded_as_messages_are_and_a_client_that_waits_is_accepted(
    burst: int, requests: list[tuple[int, float]]
) -> None:
    async def run() -> None:
        limits = LimitSettings(messages_per_second=2, messages_burst=burst, refused_burst=1000)
        rate = MessageRate(limits, Allowances(make_settings()).of("ann", 0.0), None, trio.current_time)
        began, paid = trio.current_time(), 0
        for cost, gap_seconds in requests:
            await trio.sleep(gap_seconds)
            while True:
                try:
                    rate.check("x")
                    rate.charge_answer(cost)
                except Refused as refused:
                    await trio.sleep((refused.retry_after_ms or 0) / 1000)
                else:
                    break
            paid += min(cost, burst)
            assert paid <= burst + 2 * (trio.current_time() - began) + 1e-6

    trio.run(run, clock=MockClock(autojump_threshold=0))


async def test_a_page_of_history_is_refused_where_a_ping_is_not(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    limits = {"messages_per_second": 1.0, "messages_burst": 14, "history_events_per_message": 100}
    async with open_node(limits=limits) as node:
        ann = await node.member("ann", "den")
        assert (await ann.ask(type="history", limit=1000))["type"] == "history"
        refused = await ann.ask(type="history", limit=1000, id="7")
        assert (refused["code"], refused["id"]) == ("rate_limited", "7")
        assert 7000 < refused["retry_after_ms"] <= 8001
        assert dict(node.services.refusals.counts) == {"answer_cost": 1}
        # The refused request was charged nothing: three pings are left.
        assert [(await ann.ask(type="ping"))["type"] for _ in range(4)] == ["pong"] * 3 + ["error"]
        await trio.sleep(refused["retry_after_ms"] / 1000 + 3)
        assert (await ann.ask(type="history", limit=1000))["type"] == "history"
        # One that counts as more than the burst is permitted once the whole burst is.
        await trio.sleep(20)
        assert (await ann.ask(type="join", room="den", last=10_000, presence="user"))["type"] == "joined"
        assert (await ann.ask(type="ping"))["code"] == "rate_limited"
