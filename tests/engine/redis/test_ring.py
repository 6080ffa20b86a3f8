"""Which of several servers a room lives on."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from broker.engine.redis.ring import Ring

names = st.lists(st.from_regex(r"[a-z]{1,8}:[0-9]{1,5}", fullmatch=True), min_size=1, max_size=6, unique=True)
rooms = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=50)


@given(names, rooms, st.randoms())
def test_a_room_lives_where_it_did_whatever_the_order_of_the_servers(
    servers: list[str], rooms: list[str], random: Random
) -> None:
    shuffled = list(servers)
    random.shuffle(shuffled)
    ring, again = Ring(servers), Ring(shuffled)
    for room in rooms:
        assert servers[ring.index_of(room)] == shuffled[again.index_of(room)]


@given(names, st.just("new:1"), rooms)
def test_a_new_server_takes_rooms_and_moves_none_between_the_others(
    servers: list[str], new: str, rooms: list[str]
) -> None:
    if new in servers:
        return
    before, after = Ring(servers), Ring([new, *servers])
    for room in rooms:
        owner = after.index_of(room)
        assert owner == 0 or servers[owner - 1] == servers[before.index_of(room)]


def test_servers_have_like_shares() -> None:
    ring = Ring(["a:6379", "b:6379", "c:6379"])
    shares = Counter(ring.index_of(f"room {number}") for number in range(9000))
    assert all(2000 < shares[index] < 4000 for index in range(3))
