"""When a connection is pinged and given up."""

from hypothesis import given
from hypothesis import strategies as st

from broker.sessions.liveness import Liveness, LivenessAction

PING_SECONDS, PONG_SECONDS = 25.0, 20.0


def watch(heard: list[float], until: float) -> list[tuple[float, LivenessAction]]:
    """Look once a second at a peer that is heard at certain times; return what was not fine."""
    liveness = Liveness(PING_SECONDS, PONG_SECONDS)
    signs = []
    for second in range(1, int(until) + 1):
        last = max([0.0, *(time for time in heard if time <= second)])
        sign = liveness.next_action(second, last)
        if sign is not LivenessAction.NONE:
            signs.append((second, sign))
        if sign is LivenessAction.DISCONNECT:
            break
    return signs


def test_a_silent_peer_is_pinged_once_and_then_given_up() -> None:
    assert watch([], 100) == [(25, LivenessAction.PING), (45, LivenessAction.DISCONNECT)]


def test_any_sign_of_life_answers_a_ping() -> None:
    assert watch([26.0], 60) == [(25, LivenessAction.PING), (51, LivenessAction.PING)]


def test_one_that_talks_is_left_alone() -> None:
    assert watch([float(second) for second in range(200)], 200) == []


@given(st.lists(st.floats(0, 300)))
def test_the_dead_are_found_in_time_and_the_living_never_given_up(heard: list[float]) -> None:
    signs = watch(heard, 300)
    moments = [0.0, *heard]
    pinged_at = [second for second, sign in signs if sign is LivenessAction.PING]
    for second, sign in signs:
        silence = second - max(moment for moment in moments if moment <= second)
        if sign is LivenessAction.PING:
            assert silence >= PING_SECONDS
        else:
            assert silence >= PONG_SECONDS + PING_SECONDS - 1
            assert second - pinged_at[-1] >= PONG_SECONDS
    died = signs and signs[-1][1] is LivenessAction.DISCONNECT
    end = signs[-1][0] if died else 300.0
    for moment in moments:
        following = min([later for later in moments if later > moment], default=300.0)
        if moment < end and not died:
            assert following - moment <= PING_SECONDS + PONG_SECONDS + 1


def test_the_next_silence_is_measured_anew() -> None:
    liveness = Liveness(PING_SECONDS, PONG_SECONDS)
    assert liveness.next_action(25, 0) is LivenessAction.PING
    assert liveness.next_action(30, 27) is LivenessAction.NONE
    assert liveness.next_action(51, 27) is LivenessAction.NONE
    assert liveness.next_action(52, 27) is LivenessAction.PING
    assert liveness.next_action(71, 27) is LivenessAction.NONE
    assert liveness.next_action(72, 27) is LivenessAction.DISCONNECT
