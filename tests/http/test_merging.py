"""Several nodes put together as if they were one."""

from hypothesis import given
from hypothesis import strategies as st

from broker.http.nodes.merging import COMPLETE_AFTER_MS, merge_states, merge_traffic
from broker.http.nodes.states import (
    EngineState,
    NodeQuery,
    NodeState,
    RoomActivity,
    RoomsState,
    SlowReader,
    SlowReaders,
)
from broker.http.nodes.traffic import TrafficPoint

BEGAN = 1_700_000_000


def point(time_ms: int, value: float, p99_ms: float | None = None) -> TrafficPoint:
    return TrafficPoint(1, time_ms, value, 2 * value, int(value), value, p99_ms, p99_ms)


@st.composite
def notes(draw: st.DrawFn) -> list[TrafficPoint]:
    """A node's points: about one a second, each a little late, all of one value."""
    at, value = BEGAN * 1000 + draw(st.integers(0, 999)), draw(st.integers(0, 9))
    points = []
    for late in draw(st.lists(st.integers(0, 300), min_size=8, max_size=20)):
        at += 1000 + late
        points.append(point(at, value))
    return points


@given(st.lists(notes(), min_size=1, max_size=4))
def test_each_node_counts_once_in_each_second_that_it_has_told_of(nodes):
    first = max(points[0].time_ms for points in nodes) // 1000 + 1
    last = min(points[-1].time_ms for points in nodes) // 1000
    now_ms = max(points[-1].time_ms for points in nodes) + COMPLETE_AFTER_MS
    merged = merge_traffic(nodes, since=0, time_ms=now_ms)
    numbers = [each.number for each in merged]
    assert numbers == sorted(set(numbers))
    total = sum(points[0].publishes_per_second for points in nodes)
    inner = [each for each in merged if first <= each.number <= last]
    assert [each.number for each in inner] == list(range(first, last + 1))
    for each in inner:
        assert each.time_ms == each.number * 1000
        assert each.publishes_per_second == each.connections == total
        assert each.deliveries_per_second == 2 * total


@given(st.lists(notes(), min_size=1, max_size=3), st.integers(1, 12))
def test_requests_in_steps_give_the_same_samples_as_one_request(nodes, steps):
    """As a console does: each time it is told what came since, and every second once."""
    end_ms = max(points[-1].time_ms for points in nodes) + COMPLETE_AFTER_MS
    once = merge_traffic(nodes, since=0, time_ms=end_ms)
    told: list[TrafficPoint] = []
    for step in range(1, steps + 1):
        now_ms = BEGAN * 1000 + (end_ms - BEGAN * 1000) * step // steps
        since = told[-1].number if told else 0
        # A node sends those that end behind the last second, and has noted none of the future.
        fresh = [[p for p in points if (since + 1) * 1000 <= p.time_ms <= now_ms] for points in nodes]
        told += merge_traffic(fresh, since=since, time_ms=now_ms)
    assert told == once


def test_the_second_that_is_not_over_everywhere_is_left_out():
    points = [point(BEGAN * 1000 + 1000 * second, 1) for second in range(5)]
    merged = merge_traffic([points], since=0, time_ms=BEGAN * 1000 + 4500)
    assert merged[-1].number == BEGAN + 2


def test_the_worst_delay_counts():
    merged = merge_traffic(
        [[point(BEGAN * 1000, 1, p99)] for p99 in (None, 2.0, 7.0)], since=0, time_ms=BEGAN * 1000 + 9000
    )
    assert merged[-1].p99_ms == 7.0


def state(name: str, rooms: list[tuple[str, int, float | None]], **fields: object) -> NodeState:
    values: dict = {
        "name": name,
        "machine": "web1",
        "worker": 0,
        "version": "1",
        "started_ms": 5,
        "time_ms": 0,
        "is_ready": True,
        "is_draining": False,
        "reasons": [],
        "makes_tokens": False,
        "engine": EngineState("redis", {"commits": 2, "since": "then"}),
        "connections": 3,
        "deliveries": 5,
        "deliveries_lost": 1,
        "rooms": RoomsState(len(rooms), 0, len(rooms), [RoomActivity(*room) for room in rooms]),
        "slow_readers": SlowReaders(1, 10, 100, [SlowReader(name, 10)]),
        "traffic": [],
    }
    return NodeState(**{**values, **fields})


def test_counts_are_added_and_rooms_are_taken_together():
    one = state(
        "a", [("x", 4, 2.0), ("y", 1, None)], started_ms=3, up_ms=9, is_ready=False, reasons=["draining"]
    )
    other = state("b", [("x", 5, 1.5), ("z", 9, 0.5)], version="2", machine="web2")
    for order, names in {"busiest": ["x", "z"], "largest": ["z", "x"]}.items():
        query = NodeQuery(node="all", rooms=2, order=order)
        merged = merge_states(query, [one, other], members=6, time_ms=77)
        assert [room.room for room in merged.rooms.top] == names
    (busy,) = [room for room in merged.rooms.top if room.room == "x"]
    assert (busy.room_size, busy.messages_per_second) == (5, 2.0), "each node knows the whole room"
    assert (merged.rooms.count, merged.rooms.members, merged.rooms.found) == (4, 6, 3)
    assert (merged.connections, merged.deliveries, merged.deliveries_lost) == (6, 10, 2)
    assert (merged.version, merged.machine, merged.started_ms) == ("1, 2", "web1, web2", 3)
    assert merged.up_ms == 9
    assert (merged.is_ready, merged.reasons) == (False, ["a: draining"])
    assert merged.engine.statistics == {"commits": 4, "since": "then"}
    assert (merged.slow_readers.count, merged.slow_readers.queued_bytes) == (2, 20)
    assert len(merged.slow_readers.top) == 2
