"""The last minutes of a broker, point by point."""

import weakref
from collections.abc import Iterator

import attrs
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from broker.histograms import DelayHistogram
from broker.http.nodes.busiest import MOST_AGE_SECONDS, Sample, SampleWindow
from broker.http.nodes.traffic import Reading, Traffic, run_traffic


def readings() -> Iterator[Reading]:
    """A server that makes ten deliveries and five publishes of a millisecond each second, on a tenth of a core."""
    delays, second = DelayHistogram(), 0
    while True:
        yield Reading(
            at=100.0 + second,
            time_ms=1_000 * second,
            deliveries=10 * second,
            connections=second,
            cpu_seconds=0.1 * second,
            delays=delays.snapshot(),
        )
        delays.note(0.001, 5)
        second += 1


def test_a_sample_has_the_differences_between_two_readings():
    traffic, reading = Traffic(), readings()
    traffic.note(next(reading))
    assert traffic.since(0) == []
    traffic.note(next(reading))
    (point,) = traffic.since(0)
    assert (point.number, point.time_ms, point.connections) == (1, 1_000, 1)
    assert (point.deliveries_per_second, point.publishes_per_second, point.cpu) == (10, 5, 0.1)
    assert 1 <= point.p50_ms == point.p99_ms <= 1.2


def test_a_second_without_publishes_has_no_p99():
    traffic = Traffic()
    for second in (0, 1):
        traffic.note(Reading(second, second, 0, 0, 0.0, DelayHistogram().snapshot()))
    assert traffic.since(0)[0].p99_ms is None


def test_the_p99_of_a_minute_outlasts_quiet_seconds_and_ends_with_the_minute():
    traffic, delays = Traffic(), DelayHistogram()
    assert traffic.minute_p99_ms is None
    for second in range(70):
        if second == 5:
            delays.note(0.001, 5)
        traffic.note(Reading(second, second, 0, 0, 0.0, delays.snapshot()))
        is_of_the_last_minute = 5 <= second < 65
        assert (traffic.minute_p99_ms is not None) is is_of_the_last_minute
        assert not is_of_the_last_minute or 1 <= traffic.minute_p99_ms <= 1.2


@given(points=st.integers(1, 8), noted=st.integers(0, 30), since=st.integers(0, 40))
def test_repeated_requests_get_each_sample_once_and_the_ring_is_bounded(points, noted, since):
    traffic, reading = Traffic(points), readings()
    for _ in range(noted + 1):
        traffic.note(next(reading))
    held = list(range(max(noted - points, 0) + 1, noted + 1))
    got = [point.number for point in traffic.since(since)]
    # A number of the future is from before a restart: everything is new then.
    assert got == ([number for number in held if number > since] if since <= noted else held)


def test_a_clock_that_stands_still_makes_no_point():
    traffic, reading = Traffic(), next(readings())
    traffic.note(reading)
    traffic.note(reading)
    assert traffic.since(0) == []


async def test_names_kept_for_a_console_are_dropped_once_it_is_closed(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    samples, reading = SampleWindow(), readings()
    nursery.start_soon(
        run_traffic, Traffic(), samples, lambda: attrs.evolve(next(reading), at=trio.current_time())
    )
    names = Names(lobby=5)
    held = weakref.ref(names)
    samples.keep(Sample(trio.current_time(), names))
    del names
    await trio.sleep(MOST_AGE_SECONDS - 1)
    assert held() is not None
    await trio.sleep(3)
    assert held() is None
    nursery.cancel_scope.cancel()


class Names(dict[str, int]):
    """A dict that a weak reference can be had of."""
