"""Merges the states of several nodes. Pure."""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, pairwise

from broker.http.nodes.node_view import TOP_SLOW_READERS
from broker.http.nodes.states import (
    EngineState,
    NodeQuery,
    NodeState,
    RoomActivity,
    RoomsState,
    SlowReaders,
)
from broker.http.nodes.traffic import POINTS, TrafficPoint

MOST_POINT_MS = 2000
"""Longest time a point stands for. A longer one means that the node was blocked: only its end is shown."""

COMPLETE_AFTER_MS = 2000
"""Age from which a second is shown, so that every node has reported it."""


def merge_states(query: NodeQuery, states: Sequence[NodeState], *, members: int, time_ms: int) -> NodeState:
    """Return the state of all nodes together; there is at least one, and `members` counts those of all."""
    first = states[0]
    return NodeState(
        name=query.node,
        machine=", ".join(sorted({state.machine for state in states})),
        worker=0,
        version=", ".join(sorted({state.version for state in states})),
        started_ms=min(state.started_ms for state in states),
        up_ms=max(state.up_ms for state in states),
        time_ms=time_ms,
        is_ready=all(state.is_ready for state in states),
        is_draining=all(state.is_draining for state in states),
        reasons=[f"{state.name}: {reason}" for state in states for reason in state.reasons],
        makes_tokens=first.makes_tokens,
        engine=_merge_engines([state.engine for state in states]),
        connections=sum(state.connections for state in states),
        deliveries=sum(state.deliveries for state in states),
        deliveries_lost=sum(state.deliveries_lost for state in states),
        rooms=_merge_rooms(query, [state.rooms for state in states], members),
        slow_readers=_merge_slow_readers([state.slow_readers for state in states]),
        traffic=merge_traffic([state.traffic for state in states], since=query.since, time_ms=time_ms),
    )


def _merge_engines(engines: Sequence[EngineState]) -> EngineState:
    statistics: dict[str, int | float | str] = {}
    for name, value in chain.from_iterable(engine.statistics.items() for engine in engines):
        before = statistics.get(name)
        is_sum = isinstance(value, int | float) and isinstance(before, int | float)
        statistics[name] = value + before if is_sum else value  # type: ignore[operator]
    return EngineState(engines[0].name, statistics)


def _merge_rooms(query: NodeQuery, parts: Sequence[RoomsState], members: int) -> RoomsState:
    """Merge rooms. Each node knows a room's size on all nodes and receives all of its messages, so the larger counts."""
    merged: dict[str, RoomActivity] = {}
    for room in chain.from_iterable(part.top for part in parts):
        other = merged.get(room.room, room)
        size = max(room.room_size, other.room_size)
        merged[room.room] = RoomActivity(
            room.room, size, _most((room.messages_per_second, other.messages_per_second))
        )

    def by_rate(room: RoomActivity) -> tuple[float, float]:
        return room.messages_per_second or 0.0, room.room_size

    def by_size(room: RoomActivity) -> tuple[float, float]:
        return room.room_size, room.messages_per_second or 0.0

    key: Callable[[RoomActivity], tuple[float, float]] = by_rate if query.order == "busiest" else by_size
    ordered = sorted(sorted(merged.values(), key=lambda room: room.room), key=key, reverse=True)
    return RoomsState(
        count=sum(part.count for part in parts),
        members=members,
        found=max(len(merged), *(part.found for part in parts)),
        top=ordered[: query.rooms],
    )


def _merge_slow_readers(parts: Sequence[SlowReaders]) -> SlowReaders:
    return SlowReaders(
        count=sum(part.count for part in parts),
        queued_bytes=sum(part.queued_bytes for part in parts),
        limit_bytes=max(part.limit_bytes for part in parts),
        top=heapq.nlargest(
            TOP_SLOW_READERS,
            chain.from_iterable(part.top for part in parts),
            key=lambda reader: reader.queued_bytes,
        ),
    )


def merge_traffic(parts: Iterable[Sequence[TrafficPoint]], *, since: int, time_ms: int) -> list[TrafficPoint]:
    """Add up the traffic of each Unix second after `since` that every node has reported; the worst delay counts.

    Nodes record a point each second at their own moments. Of each node, the point that a second falls into counts.
    """
    seconds: dict[int, list[TrafficPoint]] = defaultdict(list)
    newest = (time_ms - COMPLETE_AFTER_MS) // 1000
    for points in parts:
        for before, point in pairwise([None, *points]):
            assert point is not None
            begin = point.time_ms - MOST_POINT_MS if before is None else before.time_ms
            # The seconds up to and including the end of the point.
            first = max(begin, point.time_ms - MOST_POINT_MS) // 1000 + 1
            for second in range(max(first, since + 1), min(point.time_ms // 1000, newest) + 1):
                seconds[second].append(point)
    return [_merge_points(second, seconds[second]) for second in sorted(seconds)][-POINTS:]


def _merge_points(second: int, points: Sequence[TrafficPoint]) -> TrafficPoint:
    return TrafficPoint(
        number=second,
        time_ms=second * 1000,
        publishes_per_second=round(sum(point.publishes_per_second for point in points), 1),
        deliveries_per_second=round(sum(point.deliveries_per_second for point in points), 1),
        connections=sum(point.connections for point in points),
        cpu=round(sum(point.cpu for point in points), 3),
        p50_ms=_most(point.p50_ms for point in points),
        p99_ms=_most(point.p99_ms for point in points),
    )


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
