"""When a worker that says nothing is given up, and that its heartbeats hold nothing up."""

import os

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.workers.heartbeat import STARTING_SECONDS, Silence, interval_seconds, send_heartbeats

limits = st.floats(1, 86_400)


@given(limits)
def test_a_silent_worker_is_given_up_at_its_limit(limit):
    silence = Silence(limit)
    silence.reset()
    looks = 0
    while not silence.is_too_long:
        silence.add(interval_seconds(limit))
        looks += 1
        if looks > 20:  # long limits are looked at each second
            assert silence.silent_seconds == pytest.approx(looks * interval_seconds(limit))
            return
    assert limit <= silence.silent_seconds <= limit + 2 * interval_seconds(limit)


@given(limits)
def test_one_that_is_starting_has_more_time(limit):
    silence = Silence(limit)
    while not silence.is_too_long and silence.silent_seconds < 1000:
        silence.add(interval_seconds(limit))
    assert silence.silent_seconds >= STARTING_SECONDS - 1e-6


@given(limits, st.lists(st.floats(0, 1e9), max_size=4))
def test_a_parent_that_stood_still_itself_does_not_count_that(limit, pauses):
    silence = Silence(limit)
    silence.reset()
    for pause in pauses:
        silence.add(pause)
    assert not silence.is_too_long, "fewer than five looks"


@given(limits, st.lists(st.booleans(), max_size=60))
def test_every_heartbeat_begins_the_time_anew(limit, beats):
    silence = Silence(limit)
    since = 0
    for is_heard in beats:
        if is_heard:
            silence.reset()
            since = 0
        else:
            silence.add(interval_seconds(limit))
            since += 1
        assert silence.silent_seconds == pytest.approx(since * interval_seconds(limit))


async def test_heartbeats_are_many_within_the_limit(autojump_clock: MockClock):
    reading, writing = os.pipe()
    try:
        for limit in (1.0, 30.0):
            with trio.move_on_after(limit):
                await send_heartbeats(writing, limit_seconds=limit)
            assert os.read(reading, 65_536).count(b"alive\n") >= 10
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("how", ["a parent that does not read", "a parent that is gone"])
async def test_heartbeats_hold_nothing_up(autojump_clock: MockClock, how):
    reading, writing = os.pipe()
    if how == "a parent that is gone":
        os.close(reading)
    try:
        with trio.move_on_after(50_000) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: send_heartbeats(writing, limit_seconds=30.0))
                await wait_all_tasks_blocked()
        assert scope.cancelled_caught, "it went on"
    finally:
        os.close(writing)
        if how == "a parent that does not read":
            os.close(reading)
