"""The circuit breaker: away after five failures in a row, one probe at a time, back with the first answer."""

from hypothesis import given
from hypothesis import strategies as st

from broker.hooks.breaker import FAILURES_IN_A_ROW, LAST_PAUSE_SECONDS, Attempt, Breaker


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    opens = [breaker.fail(Attempt.ORDINARY, now) for _ in range(FAILURES_IN_A_ROW)]
    assert opens == [False] * (FAILURES_IN_A_ROW - 1) + [True]
    return breaker


def test_an_answer_in_between_keeps_it_closed() -> None:
    breaker = Breaker()
    for _ in range(10):
        for _ in range(FAILURES_IN_A_ROW - 1):
            assert not breaker.fail(Attempt.ORDINARY, 0.0)
        assert not breaker.succeed()
    assert breaker.begin(0.0) is Attempt.ORDINARY


def test_one_probe_is_let_through_after_each_pause_which_doubles() -> None:
    breaker, now, pauses = opened(), 0.0, []
    for _ in range(8):
        pause = breaker.seconds_left(now)
        pauses.append(pause)
        assert breaker.begin(now + pause - 0.001) is None
        now += pause
        assert breaker.begin(now) is Attempt.PROBE
        assert breaker.begin(now) is None
        assert not breaker.fail(Attempt.PROBE, now)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    now += LAST_PAUSE_SECONDS
    assert breaker.begin(now) is Attempt.PROBE
    assert breaker.succeed()
    assert [breaker.begin(now) for _ in range(3)] == [Attempt.ORDINARY] * 3
    assert opened().seconds_left(0) == 1


def test_a_probe_that_nobody_waits_for_makes_room_for_another() -> None:
    breaker = opened()
    assert breaker.begin(1.0) is Attempt.PROBE
    breaker.abandon(Attempt.PROBE)
    assert breaker.begin(1.0) is Attempt.PROBE


@given(st.lists(st.tuples(st.sampled_from(["begin", "answer", "fail", "abandon"]), st.floats(0, 40))))
def test_it_never_stays_closed_for_good_to_an_application_that_is_back(
    steps: list[tuple[str, float]],
) -> None:
    breaker, now, begun = Breaker(), 0.0, []
    for step, seconds in steps:
        now += seconds
        if step == "begin":
            attempt = breaker.begin(now)
            begun += [] if attempt is None else [attempt]
        elif begun:
            attempt = begun.pop()
            match step:
                case "answer":
                    breaker.succeed()
                case "fail":
                    breaker.fail(attempt, now)
                case "abandon":
                    breaker.abandon(attempt)
    for attempt in begun:
        breaker.abandon(attempt)
    assert breaker.begin(now + LAST_PAUSE_SECONDS) is not None
