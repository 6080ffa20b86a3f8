"""The Prometheus metrics of a broker, read from its statistics at each scrape."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import attrs
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from broker.engine.base import Engine
from broker.errors import CloseCode, ErrorCode, RefusalReason
from broker.log import Log
from broker.refusals import Refusals
from broker.rooms.directory import Rooms
from broker.sessions.connections import Connections


@contextmanager
def open_metrics(
    rooms: Rooms,
    connections: Connections,
    engine: Engine,
    refusals: Refusals,
    log: Log,
    *,
    registry: CollectorRegistry | None = None,
) -> Iterator[CollectorRegistry]:
    """Register the metrics of one broker for the block, in `registry` or a new one with those of the process as well.

    :raises ValueError: if `registry` has metrics of the same names.
    """
    if registry is None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
    collectors: list[Collector] = [
        BrokerCollector(rooms, connections, engine),
        RefusalCollector(refusals, rooms),
        LogCollector(log),
    ]
    with ExitStack() as registered:
        for collector in collectors:
            registry.register(collector)
            registered.callback(registry.unregister, collector)
        yield registry


@attrs.frozen
class BrokerCollector(Collector):
    """Turns the statistics of rooms and connections into metrics."""

    _rooms: Rooms
    _connections: Connections
    _engine: Engine

    def collect(self) -> Iterator[Metric]:
        """Take a snapshot; called for each scrape."""
        rooms = self._rooms.statistics()
        yield GaugeMetricFamily(
            "greenroom_connections",
            "Authenticated connections open on this node: WebSockets and event streams",
            len(self._connections),
        )
        yield GaugeMetricFamily("greenroom_rooms", "Rooms in memory on this node", rooms.rooms)
        yield GaugeMetricFamily(
            "greenroom_room_members",
            "Users' connections of this node, counted once for each room they are in",
            rooms.members,
        )
        yield CounterMetricFamily(
            "greenroom_deliveries", "Notices offered to members of rooms", rooms.deliveries
        )
        yield CounterMetricFamily(
            "greenroom_deliveries_lost",
            "Notices that a member's outbox refused because it was full",
            rooms.deliveries_lost,
        )
        engine = self._engine.statistics()
        yield CounterMetricFamily("greenroom_engine_commits", "Transactions of the engine", engine.commits)
        yield CounterMetricFamily("greenroom_engine_messages", "Messages in them", engine.messages)
        yield CounterMetricFamily(
            "greenroom_rooms_evicted",
            "Rooms forgotten before their time, as all histories came to history.total_bytes",
            engine.rooms_evicted,
        )
        if engine.history_bytes is not None:
            yield GaugeMetricFamily(
                "greenroom_history_bytes", "Memory that all histories take together", engine.history_bytes
            )
        yield CounterMetricFamily("greenroom_rooms_started", "Rooms brought up", rooms.registry.started)
        yield CounterMetricFamily(
            "greenroom_rooms_passivated", "Rooms put away because they were idle", rooms.registry.passivated
        )


@attrs.frozen
class RefusalCollector(Collector):
    """Turns the counts of refusals and close codes into metrics; the sets of labels are bounded."""

    _refusals: Refusals
    _rooms: Rooms

    def collect(self) -> Iterator[Metric]:
        """Take a snapshot; called for each scrape."""
        refusals = CounterMetricFamily(
            "greenroom_refusals", "Connections and requests turned away, by reason", labels=["reason"]
        )
        # All reasons from the start, so that an alert sees the first refusal as a step.
        for reason in (*RefusalReason, *ErrorCode):
            # Rooms count the requests that they answer themselves.
            by_rooms = self._rooms.tally.unavailable if reason is ErrorCode.UNAVAILABLE else 0
            refusals.add_metric([reason.value], self._refusals.counts.get(reason, 0) + by_rooms)
        yield refusals
        closes = CounterMetricFamily(
            "greenroom_closes", "WebSockets and event streams that ended, by close code", labels=["code"]
        )
        for code in sorted({*map(str, map(int, CloseCode)), *self._refusals.closes}):
            closes.add_metric([code], self._refusals.closes.get(code, 0))
        yield closes


@attrs.frozen(eq=False)
class LogCollector(Collector):
    """Turns the count of dropped log lines into a metric."""

    _log: Log

    def collect(self) -> Iterator[Metric]:
        """Take a snapshot; called for each scrape."""
        yield CounterMetricFamily(
            "greenroom_log_lines_dropped",
            "Log lines dropped because their reader stood still",
            self._log.lines_dropped(),
        )
