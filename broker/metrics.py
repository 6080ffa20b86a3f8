"""The Prometheus metrics of a broker, read from its statistics at each scrape.

Names and help follow https://prometheus.io/docs/practices/naming/; `promtool check metrics` finds nothing to say.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import accumulate

import attrs
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from broker.engine.base import Engine
from broker.engine.room_store import Move, RoomStore
from broker.errors import CloseCode, ErrorCode, RefusalReason
from broker.histograms import (
    BOUNDS_SECONDS,
    BUCKETS_PER_DOUBLING,
    SIZE_BOUNDS,
    DelayHistogram,
    SizeHistogram,
    with_singles,
)
from broker.hooks.gate import BOUNDS_SECONDS as ANSWER_BOUNDS_SECONDS
from broker.hooks.gate import Outcome
from broker.hooks.hooks import Hooks
from broker.log import Log
from broker.refusals import Refusals
from broker.rooms.directory import Rooms
from broker.rooms.turn_tally import TurnKind, TurnOutcome, TurnTally
from broker.sessions.backlog import RELIEFS
from broker.sessions.connections import Connections
from broker.sessions.deflate_tally import DeflateTally
from broker.webhooks.progress import FailureReason
from broker.webhooks.tally import Tally

DELAY_BUCKETS = range(2 * BUCKETS_PER_DOUBLING, len(BOUNDS_SECONDS), 2 * BUCKETS_PER_DOUBLING)
"""Those of the bounds of DelayHistogram that are told, each four times the one before: 61 µs to 64 s."""

SIZE_BUCKETS = range(0, len(SIZE_BOUNDS), 2)
"""Those of the bounds of SizeHistogram that are told: 1, 7, 31 … 131,071."""


def add_delays(family: HistogramMetricFamily, labels: Sequence[str], delays: DelayHistogram) -> None:
    """Add the buckets of delays to a family, under the values of its labels."""
    until = list(accumulate(delays.snapshot()))
    buckets = [(str(BOUNDS_SECONDS[index]), until[index]) for index in DELAY_BUCKETS]
    family.add_metric(labels, [*buckets, ("+Inf", until[-1])], delays.sum_seconds)


def delays_family(name: str, documentation: str, delays: DelayHistogram) -> Metric:
    """Return a family of delays without labels."""
    family = HistogramMetricFamily(name, documentation)
    add_delays(family, [], delays)
    return family


def sizes_family(name: str, documentation: str, sizes: Sequence[SizeHistogram]) -> Metric:
    """Return a family of the sizes in all of `sizes` together, without labels."""
    until = list(accumulate(map(sum, zip(*[each.snapshot() for each in sizes], strict=True))))
    family = HistogramMetricFamily(name, documentation)
    buckets = [(str(float(SIZE_BOUNDS[index])), until[index]) for index in SIZE_BUCKETS]
    family.add_metric([], [*buckets, ("+Inf", until[-1])], sum(each.total for each in sizes))
    return family


@contextmanager
def open_metrics(
    rooms: Rooms,
    connections: Connections,
    engine: Engine,
    refusals: Refusals,
    log: Log,
    *,
    webhooks: Sequence[Tally] = (),
    build: Callable[[], Mapping[str, str]],
    is_draining: Callable[[], bool],
    registry: CollectorRegistry | None = None,
    hooks: Hooks | None = None,
    certificate_expires_at: Callable[[], float] | None = None,
    lag: DelayHistogram,
    flushes: SizeHistogram,
    deflate: DeflateTally,
) -> Iterator[CollectorRegistry]:
    """Register the metrics of one broker for the block, in `registry` or a new one with those of the process as well.

    `build` returns the labels of `greenroom_build_info`; `certificate_expires_at` returns Unix seconds. `lag` is that of the
    event loop, `flushes` the sizes of the flusher's batches.

    :raises ValueError: if `registry` has metrics of the same names.
    """
    if registry is None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
    collectors: list[Collector] = [
        BrokerCollector(rooms, connections),
        RefusalCollector(refusals, rooms),
        EngineCollector(engine),
        LogCollector(log),
        WebhookCollector(webhooks),
        NodeCollector(build, is_draining),
        LoopCollector(lag, flushes),
        DeflateCollector(deflate),
    ]
    if hooks is not None:
        collectors.append(HookCollector(hooks))
    if rooms.turn_tally is not None:
        collectors.append(TurnCollector(rooms.turn_tally, rooms))
        if engine.room_store is not None:
            collectors.append(MoveCollector(engine.room_store))
    if certificate_expires_at is not None:
        collectors.append(CertificateCollector(certificate_expires_at))
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
            "Notices that a member's outbox refused because it was full, or that a newer one replaced in it",
            rooms.deliveries_lost,
        )
        yield from self._ledger()
        tally = self._rooms.tally
        yield delays_family(
            "greenroom_publish_seconds",
            "Publishes of clients and notifiers, from their turn in the room until every member's outbox has them",
            tally.delays,
        )
        yield sizes_family(
            "greenroom_publish_batch_messages",
            "Publishes that a room appended and sent together",
            [with_singles(tally.batches, sum(tally.delays.snapshot()) - tally.batches.total)],
        )
        yield delays_family(
            "greenroom_join_seconds",
            "Joins that succeeded, from their request until the answer is in the member's outbox",
            tally.joins,
        )
        yield GaugeMetricFamily(
            "greenroom_outbox_bytes",
            "Bytes in the outboxes of this node that wait for peers to read",
            self._connections.backlog.total_bytes,
        )
        relieved = CounterMetricFamily(
            "greenroom_outboxes_relieved",
            "Slow readers that were closed, or lost events, as all outboxes came to limits.outbox_total_bytes",
            labels=["outcome"],
        )
        for relief in RELIEFS:
            relieved.add_metric([relief], self._connections.backlog.relieved[relief])
        yield relieved
        yield CounterMetricFamily("greenroom_rooms_started", "Rooms brought up", rooms.registry.started)
        yield CounterMetricFamily(
            "greenroom_rooms_passivated", "Rooms put away because they were idle", rooms.registry.passivated
        )

    def _ledger(self) -> Iterator[Metric]:
        tally = self._rooms.tally
        outcomes = CounterMetricFamily(
            "greenroom_delivery_outcomes",
            "Events and notices for members by what became of them; with those that wait, all there were",
            labels=["outcome"],
        )
        outcomes.add_metric(["written"], tally.read_written())
        outcomes.add_metric(["dropped"], tally.deliveries_lost)
        outcomes.add_metric(["gone"], tally.gone)
        outcomes.add_metric(["filtered"], tally.filtered)
        yield outcomes
        yield GaugeMetricFamily(
            "greenroom_deliveries_waiting",
            "Notices in the outboxes of peers that have yet to read",
            tally.waiting,
        )


@attrs.frozen
class EngineCollector(Collector):
    """Turns the statistics and the health of the engine into metrics."""

    _engine: Engine

    def collect(self) -> Iterator[Metric]:
        """Take a snapshot; called for each scrape."""
        engine, health = self._engine.statistics(), self._engine.health()
        yield GaugeMetricFamily(
            "greenroom_engine_up",
            "Whether the engine stored the last time it was to, and answers",
            float(health.is_up),
        )
        if health.servers_up:
            # By place, not by address: /metrics may be open to all.
            servers = GaugeMetricFamily(
                "greenroom_redis_up",
                "Whether a Redis server takes requests and delivers publications, by its place in server.engine",
                labels=["server"],
            )
            for index, is_up in enumerate(health.servers_up):
                servers.add_metric([str(index)], float(is_up))
            yield servers
        yield GaugeMetricFamily(
            "greenroom_engine_appends_waiting", "Appends that wait to be stored", engine.waiting
        )
        yield CounterMetricFamily("greenroom_engine_commits", "Transactions of the engine", engine.commits)
        yield CounterMetricFamily(
            "greenroom_engine_messages", "Messages in transactions of the engine", engine.messages
        )
        yield CounterMetricFamily(
            "greenroom_rooms_evicted",
            "Rooms forgotten before their time, as all histories came to history.total_bytes",
            engine.rooms_evicted,
        )
        if engine.history_bytes is not None:
            yield GaugeMetricFamily(
                "greenroom_history_bytes", "Memory that all histories take together", engine.history_bytes
            )
        meter = self._engine.meter
        if meter is not None:
            seconds = HistogramMetricFamily(
                "greenroom_engine_seconds",
                "Calls of the engine that succeeded, and its transactions, by operation",
                labels=["operation"],
            )
            for operation, delays in meter.seconds().items():
                add_delays(seconds, [operation], delays)
            yield seconds
            yield sizes_family(
                "greenroom_engine_batch_requests",
                "Requests that went to the store together: appends in a transaction, commands in a write to Redis",
                meter.batches,
            )


@attrs.frozen(eq=False)
class NodeCollector(Collector):
    """Shows the build, and whether the node is draining."""

    _build: Callable[[], Mapping[str, str]]
    _is_draining: Callable[[], bool]

    def collect(self) -> Iterator[Metric]:
        """Take a snapshot; called for each scrape."""
        labels = self._build()
        build = GaugeMetricFamily(
            "greenroom_build_info",
            "The version of Greenroom and its engine; always 1",
            labels=list(labels),
        )
        build.add_metric(list(labels.values()), 1)
        yield build
        yield GaugeMetricFamily(
            "greenroom_draining",
            "Whether the node sends its clients away to stop",
            float(self._is_draining()),
        )


@attrs.frozen(eq=False)
class LoopCollector(Collector):
    """Shows how late the event loop is, and how much it writes at a time."""

    _lag: DelayHistogram
    _flushes: SizeHistogram

    def collect(self) -> Iterator[Metric]:
        """Take a snapshot; called for each scrape."""
        yield delays_family(
            "greenroom_scheduler_lag_seconds",
            "How much later than due the event loop woke a task, measured once a second",
            self._lag,
        )
        yield sizes_family(
            "greenroom_flush_batch_outboxes",
            "Outboxes that were written together behind one turn of the scheduler",
            [self._flushes],
        )


@attrs.frozen(eq=False)
class CertificateCollector(Collector):
    """Shows until when the certificate of the port is valid."""

    _expires_at: Callable[[], float]

    def collect(self) -> Iterator[Metric]:
        """Take a snapshot; called for each scrape."""
        yield GaugeMetricFamily(
            "greenroom_tls_certificate_expiry_timestamp_seconds",
            "Unix time at which the certificate of new connections expires",
            self._expires_at(),
        )


@attrs.frozen(eq=False)
class DeflateCollector(Collector):
    """Shows how many WebSockets are compressed, and what that saves."""

    _tally: DeflateTally

    def collect(self) -> Iterator[Metric]:
        """Take a snapshot; called for each scrape."""
        yield CounterMetricFamily(
            "greenroom_deflate_connections",
            "WebSockets that agreed on permessage-deflate",
            self._tally.connections,
        )
        yield CounterMetricFamily(
            "greenroom_deflate_plain_bytes",
            "Size of compressed frames before; a frame for many members counts once",
            self._tally.plain_bytes,
        )
        yield CounterMetricFamily(
            "greenroom_deflate_compressed_bytes",
            "Size of the same frames after",
            self._tally.compressed_bytes,
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
class HookCollector(Collector):
    """Turns the statistics of hooks into metrics; the labels are places in the configuration, as /metrics may be open."""

    _hooks: Hooks

    def collect(self) -> Iterator[Metric]:
        """Take a snapshot; called for each scrape."""
        questions = CounterMetricFamily(
            "greenroom_hook_questions",
            "Questions to the application, by hook and outcome",
            labels=["hook", "outcome"],
        )
        seconds = HistogramMetricFamily(
            "greenroom_hook_answer_seconds",
            "Time from a question, with its wait in the queue, until its answer",
            labels=["hook"],
        )
        away = GaugeMetricFamily(
            "greenroom_hook_away",
            "Whether the application does not answer a hook, so that it is seldom asked",
            labels=["hook"],
        )
        for gate in self._hooks.gates:
            for outcome in Outcome:
                questions.add_metric([gate.name, outcome.value], gate.outcomes[outcome])
            until = list(accumulate(gate.buckets))
            buckets = [
                (str(bound), count) for bound, count in zip(ANSWER_BOUNDS_SECONDS, until, strict=False)
            ]
            seconds.add_metric([gate.name], [*buckets, ("+Inf", until[-1])], gate.sum_seconds)
            away.add_metric([gate.name], float(gate.is_away))
        yield from (questions, seconds, away)


@attrs.frozen(eq=False)
class TurnCollector(Collector):
    """Turns the counts of the turns of rooms with code, and the sizes of their states, into metrics."""

    _tally: TurnTally
    _rooms: Rooms

    def collect(self) -> Iterator[Metric]:
        """Take a snapshot; called for each scrape."""
        turns = CounterMetricFamily(
            "greenroom_turns",
            "Turns of rooms with code of their own, by kind and outcome",
            labels=["kind", "outcome"],
        )
        for kind in TurnKind:
            for outcome in TurnOutcome:
                turns.add_metric([kind.value, outcome.value], self._tally.outcomes[kind, outcome])
        yield turns
        yield delays_family(
            "greenroom_turn_seconds", "Time of a turn, without its storing", self._tally.durations
        )
        sizes = self._rooms.code_state_sizes()
        yield GaugeMetricFamily(
            "greenroom_room_state_bytes", "States of all rooms with code that run on this node", sum(sizes)
        )
        yield GaugeMetricFamily(
            "greenroom_room_state_largest_bytes", "The largest of these states", max(sizes, default=0)
        )


@attrs.frozen(eq=False)
class MoveCollector(Collector):
    """Turns the count of rooms that this node took over from others into a metric."""

    _store: RoomStore

    def collect(self) -> Iterator[Metric]:
        """Take a snapshot; called for each scrape."""
        moves = CounterMetricFamily(
            "greenroom_room_moves",
            "Rooms with code of their own that came to this node from another one, by reason",
            labels=["reason"],
        )
        for move in Move:
            moves.add_metric([move.value], self._store.moves.get(move, 0))
        yield moves


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


@attrs.frozen(eq=False)
class WebhookCollector(Collector):
    """Turns the counts of webhooks into metrics, and the lengths of the queues that this node delivers from."""

    _tallies: Sequence[Tally]

    def collect(self) -> Iterator[Metric]:
        """Take a snapshot; called for each scrape."""
        if not self._tallies:
            return
        delivered = CounterMetricFamily(
            "greenroom_webhook_delivered", "Entries of a webhook that were delivered", labels=["webhook"]
        )
        failures = CounterMetricFamily(
            "greenroom_webhook_failures",
            "Requests of a webhook that failed, by reason",
            labels=["webhook", "reason"],
        )
        dropped = CounterMetricFamily(
            "greenroom_webhook_dropped",
            "Entries that were lost, as the queue was full; only with memory://",
            labels=["webhook"],
        )
        waiting = GaugeMetricFamily(
            "greenroom_webhook_waiting",
            "Entries that wait for their delivery, where this node delivers",
            labels=["webhook"],
        )
        oldest = GaugeMetricFamily(
            "greenroom_webhook_oldest_seconds",
            "For how long the oldest of them has waited",
            labels=["webhook"],
        )
        aside = GaugeMetricFamily(
            "greenroom_webhook_aside",
            "Entries put aside, as they could not be delivered, where this node delivers",
            labels=["webhook"],
        )
        for tally in self._tallies:
            lengths = tally.lengths()
            delivered.add_metric([tally.name], tally.delivered_count)
            # All reasons from the start, so that an alert sees the first failure as a step.
            for reason in FailureReason:
                failures.add_metric([tally.name, reason.value], tally.failures[reason])
            dropped.add_metric([tally.name], lengths.dropped)
            waiting.add_metric([tally.name], lengths.waiting)
            oldest.add_metric([tally.name], lengths.oldest_seconds)
            aside.add_metric([tally.name], lengths.aside)
        yield from (delivered, failures, dropped, waiting, oldest, aside)
