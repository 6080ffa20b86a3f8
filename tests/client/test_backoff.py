"""When a client comes back, and whether."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from broker.client.backoff import Reconnects, backoff_seconds, is_out_of_time, may_reconnect
from broker.errors import CloseCode


@given(st.integers(0, 10_000), st.integers(), st.floats(0, 1e9))
def test_delays_stay_within_a_cap_that_doubles(attempt, seed, down_seconds):
    delay = backoff_seconds(attempt, Random(seed), down_seconds)
    assert 0 <= delay <= min(30.0, 2.0 ** min(attempt, 10), max(5.0, down_seconds / 4))


@given(st.floats(0, 1000), st.integers())
def test_a_client_returns_soon_after_its_server(outage_seconds, seed):
    reconnects = Reconnects(Random(seed))
    now = 0.0
    while now < outage_seconds:
        now += reconnects.failed(now) + 0.01
    assert now - outage_seconds <= max(5.0, outage_seconds / 4) + 0.02


def test_only_a_token_out_of_its_time_may_be_accepted_later():
    assert is_out_of_time(4001, "token has expired (exp)")
    assert is_out_of_time(4001, "token is not valid yet (nbf)")
    assert not is_out_of_time(4003, "token has expired (exp)")
    assert not is_out_of_time(4001, "token signature is wrong")


def test_delays_are_spread():
    random = Random(1)
    delays = [backoff_seconds(10, random, 1000.0) for _ in range(1000)]
    assert min(delays) < 1.0
    assert max(delays) > 29.0


def test_the_close_code_says_whether_to_come_back():
    final = {code for code in CloseCode if not may_reconnect(code)}
    assert final == {CloseCode.NORMAL, CloseCode.UNAUTHORIZED, CloseCode.FORBIDDEN, CloseCode.REMOVED}
    assert may_reconnect(1006)


class Longest(Random):
    def uniform(self, a: float, b: float) -> float:
        return b


def test_a_stable_connection_begins_anew_and_a_short_one_does_not():
    reconnects = Reconnects(Longest())
    now, delays = 0.0, []
    for held_seconds in (0.0, 1.0, 9.0, 10.0, 5.0):
        reconnects.connected(now)
        now += held_seconds
        delays.append(reconnects.lost(now, 1006))
    assert delays == [1, 2, 4, 1, 2]


def test_what_the_server_asked_for_is_obeyed():
    reconnects = Reconnects(Longest())
    reconnects.connected(0.0)
    reconnects.asked_to_reconnect(100.0, 7.0)
    assert reconnects.lost(103.0, 1012) == 4.0
    reconnects.connected(107.0)
    assert reconnects.lost(200.0, 1006) == 1.0, "it held for one connection"


def test_a_server_that_always_sends_away_is_not_stormed():
    reconnects = Reconnects(Longest())
    delays = []
    for now in range(5):
        reconnects.connected(now)
        reconnects.asked_to_reconnect(now, 0.0)
        delays.append(reconnects.lost(now, 1012))
    assert delays == [0, 2, 4, 5, 5]


def test_a_final_code_ends_it():
    assert Reconnects(Longest()).lost(0.0, 4004) is None
