"""Keys that may have been stored of late: none of the window is missed, and few others seem to be there."""

from hypothesis import given
from hypothesis import strategies as st

from broker.engine.recent_keys import RecentKeys
from broker.model import IdempotencyKey

WINDOW_MS = 1000


@given(steps=st.lists(st.tuples(st.integers(0, 700), st.sampled_from(["den", "attic"]), st.integers(0, 50))))
def test_no_key_of_the_window_is_missed(steps: list[tuple[int, str, int]]) -> None:
    keys, noted, now_ms = RecentKeys(WINDOW_MS), dict[tuple[str, IdempotencyKey], int](), 0
    for passed_ms, room, number in steps:
        now_ms += passed_ms
        key = IdempotencyKey("user ann", str(number))
        keys.note(room, key, now_ms)
        noted[room, key] = now_ms
        for (its_room, its_key), noted_ms in noted.items():
            assert keys.may_hold(its_room, its_key) or now_ms - noted_ms >= WINDOW_MS


def test_other_keys_and_keys_of_long_ago_seem_seldom_to_be_there() -> None:
    keys = RecentKeys(WINDOW_MS)
    noted = [IdempotencyKey("user ann", str(number)) for number in range(1000)]
    for key in noted:
        keys.note("den", key, 0)
    assert all(keys.may_hold("den", key) for key in noted)
    assert sum(keys.may_hold("attic", key) for key in noted) < 10
    assert sum(keys.may_hold("den", IdempotencyKey("user ben", key.key)) for key in noted) < 10
    for now_ms in (WINDOW_MS, 2 * WINDOW_MS):
        keys.note("den", IdempotencyKey("user ann", "another"), now_ms)
    assert sum(keys.may_hold("den", key) for key in noted) < 10
