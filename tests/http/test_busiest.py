"""Which rooms have most going on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.http.nodes.busiest import Sample, SampleWindow, Top, messages_per_second


def test_a_rate_is_measured_from_a_look_about_a_second_ago():
    samples = SampleWindow()
    assert samples.baseline(10.0) is None
    samples.keep(Sample(10.0, {"lobby": 5}))
    assert messages_per_second(samples.baseline(10.1), 10.1, "lobby", 6) is None
    assert messages_per_second(samples.baseline(12.0), 12.0, "lobby", 25) == 10
    samples.keep(Sample(12.0, {"lobby": 25}))
    # Another console asks just behind: measured from the same sample, and the sample of it is not kept.
    assert messages_per_second(samples.baseline(12.5), 12.5, "lobby", 30) == 10
    samples.keep(Sample(12.5, {"lobby": 30}))
    assert samples.baseline(13.0).at == 12.0


def test_a_look_of_long_ago_tells_nothing_and_is_forgotten():
    samples = SampleWindow()
    samples.keep(Sample(1.0, {"lobby": 5}))
    samples.keep(Sample(2.0, {"lobby": 5}))
    assert samples.baseline(60.0) is None
    assert vars(samples) == {"_older": None, "_newer": None}


@pytest.mark.parametrize(("before", "now", "rate"), [({}, 4, 2), ({"den": 9}, 4, 2), ({"den": 4}, 4, 0)])
def test_a_room_that_is_new_or_began_anew_began_at_nothing(before, now, rate):
    assert messages_per_second(Sample(1.0, before), 3.0, "den", now) == rate


rooms = st.dictionaries(
    st.text("ab", min_size=1, max_size=4),
    st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(0, 3))),
)


@given(rooms, st.integers(0, 6), st.sampled_from(["busiest", "largest"]))
def test_the_busiest_rooms_are_the_first_of_a_full_sort(rooms, limit, order):
    top = Top(limit, order)
    for room, (size, rate) in rooms.items():
        top.add(room, size, rate)

    def key(room: str) -> tuple[int, int]:
        size, rate = rooms[room]
        return (-(rate or 0), -size) if order == "busiest" else (-size, -(rate or 0))

    shown = [room for room, _, _ in top.rooms()]
    assert [key(room) for room in shown] == sorted(map(key, rooms))[:limit]
    assert shown == sorted(shown, key=lambda room: (key(room), room))
    assert all(rooms[room] == (size, rate) for room, size, rate in top.rooms())
