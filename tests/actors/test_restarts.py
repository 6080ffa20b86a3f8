"""Restart counting is pure, so it is tested by properties; all times are whole seconds, hence exact."""

import attrs
from hypothesis import assume, given
from hypothesis import strategies as st

from actors import RestartPolicy
from actors.restarts import RestartCounter

POLICIES = st.builds(
    RestartPolicy,
    intensity=st.integers(0, 6),
    period_seconds=st.integers(1, 30).map(float),
    backoff_seconds=st.integers(0, 8).map(float),
    backoff_max_seconds=st.integers(0, 40).map(float),
)
LIFETIMES = st.lists(st.integers(0, 20).map(float), min_size=1, max_size=60)


@attrs.frozen
class History:
    """The history of an actor that fails after each of its lifetimes."""

    failures: list[float]
    restarts: list[float]
    delays: list[float]
    has_escalated: bool


def live(policy: RestartPolicy, lifetimes: list[float]) -> History:
    counter = RestartCounter(policy)
    history = History([], [], [], has_escalated=False)
    now = 0.0
    for lifetime in lifetimes:
        now += lifetime
        history.failures.append(now)
        delay = counter.next_delay(now)
        if delay is None:
            return attrs.evolve(history, has_escalated=True)
        now += delay
        history.delays.append(delay)
        history.restarts.append(now)
    return history


@given(policy=POLICIES, lifetimes=LIFETIMES)
def test_there_are_never_more_restarts_in_a_period_than_the_intensity(
    policy: RestartPolicy, lifetimes: list[float]
) -> None:
    restarts = live(policy, lifetimes).restarts
    assert policy.intensity > 0 or not restarts
    for first, last in zip(restarts, restarts[policy.intensity :], strict=False):
        assert last - first >= policy.period_seconds


@given(policy=POLICIES, lifetimes=LIFETIMES)
def test_it_escalates_exactly_when_one_restart_more_would_be_too_many(
    policy: RestartPolicy, lifetimes: list[float]
) -> None:
    history = live(policy, lifetimes)
    for index, failure in enumerate(history.failures):
        within = [at for at in history.failures[:index] if at > failure - policy.period_seconds]
        is_last_word = history.has_escalated and index == len(history.failures) - 1
        assert is_last_word == (len(within) >= policy.intensity)


@given(policy=POLICIES, lifetimes=LIFETIMES)
def test_the_first_restart_of_a_period_is_at_once_and_the_others_wait_longer_and_longer(
    policy: RestartPolicy, lifetimes: list[float]
) -> None:
    history = live(policy, lifetimes)
    for index, delay in enumerate(history.delays):
        failure = history.failures[index]
        earlier = sum(at > failure - policy.period_seconds for at in history.failures[:index])
        if earlier == 0:
            assert delay == 0.0
        else:
            assert delay == min(policy.backoff_seconds * 2 ** (earlier - 1), policy.backoff_max_seconds)


@given(policy=POLICIES, quiet=st.integers(0, 50))
def test_a_quiet_period_forgives_everything(policy: RestartPolicy, quiet: int) -> None:
    assume(policy.intensity > 0)
    counter = RestartCounter(policy)
    while counter.next_delay(0.0) is not None:
        pass
    assert counter.next_delay(policy.period_seconds + quiet) == 0.0


def test_a_very_long_series_of_failures_does_not_overflow() -> None:
    counter = RestartCounter(RestartPolicy(intensity=3000, backoff_seconds=0.05, backoff_max_seconds=2.0))
    delays = [counter.next_delay(0.0) for _ in range(3001)]
    assert delays[:4] == [0.0, 0.05, 0.1, 0.2]
    assert delays[2999] == 2.0
    assert delays[3000] is None
