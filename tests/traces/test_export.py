"""Spans are exported in batches, in a thread that nothing waits for longer than it may."""

import threading
from collections.abc import Callable, Sequence

import pytest
import trio
from trio.testing import MockClock

pytest.importorskip("opentelemetry.sdk", reason="the extra traces is not installed")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from broker.traces.export import BATCH_SPANS, FAREWELL_SECONDS, INTERVAL_SECONDS, MOST_WAITING, BatchExport
from broker.traces.otel import OtelTracer, make_provider
from broker.traces.tracer import spanning
from tests.support.logs import RecordingLog


class Exporter(SpanExporter):
    """Keeps what it is given; may raise, fail, or hang until it is shut down."""

    def __init__(self, answer: object = SpanExportResult.SUCCESS) -> None:
        self.answer = answer
        self.batches: list[int] = []
        self.is_shut_down = threading.Event()
        self.threads: list[threading.Thread] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.threads.append(threading.current_thread())
        self.batches.append(len(spans))
        if self.answer == "hang":
            self.is_shut_down.wait()
            return SpanExportResult.FAILURE
        if isinstance(self.answer, Exception):
            raise self.answer
        assert isinstance(self.answer, SpanExportResult)
        return self.answer

    def shutdown(self) -> None:
        self.is_shut_down.set()


def open_export(exporter: Exporter) -> tuple[BatchExport, OtelTracer, RecordingLog]:
    log = RecordingLog()
    export = BatchExport(exporter, log)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(export)
    return export, OtelTracer(provider), log


def make_spans(tracer: OtelTracer, count: int) -> None:
    for _ in range(count):
        tracer.start("x").end()


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for a thread; virtual time stands still meanwhile."""
    while not is_so():
        await trio.sleep(0)


async def test_spans_go_together_after_a_while_and_at_once_when_they_are_many(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    exporter = Exporter()
    export, tracer, log = open_export(exporter)
    nursery.start_soon(export.run)
    make_spans(tracer, 3)
    await trio.sleep(INTERVAL_SECONDS / 2)
    assert exporter.batches == []
    await trio.sleep(INTERVAL_SECONDS)
    await until(lambda: exporter.batches == [3])
    began = trio.current_time()
    make_spans(tracer, BATCH_SPANS + 1)
    await until(lambda: exporter.batches == [3, BATCH_SPANS, 1])
    assert trio.current_time() - began < INTERVAL_SECONDS
    assert threading.main_thread() not in exporter.threads
    assert log.events == []
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("answer", [SpanExportResult.FAILURE, OSError("away")])
async def test_lost_spans_are_logged_once_a_minute(
    autojump_clock: MockClock, nursery: trio.Nursery, answer: object
) -> None:
    exporter = Exporter(answer)
    export, tracer, log = open_export(exporter)
    nursery.start_soon(export.run)
    for number in range(1, 6):
        make_spans(tracer, 2)
        await trio.sleep(2 * INTERVAL_SECONDS)
        await until(lambda: len(exporter.batches) == number)  # noqa: B023  # called in this round
    await until(lambda: len(log.lines) == 1)
    assert [line.fields["spans"] for line in log.lines] == [2]
    # A loss is counted when its thread is back, and the clock does not wait for that: it may be part of the next line.
    minutes, made = 0, 10
    while sum(line.fields["spans"] for line in log.lines) < made:
        await trio.sleep(60)
        make_spans(tracer, 2)
        minutes, made = minutes + 1, made + 2
        await trio.sleep(2 * INTERVAL_SECONDS)
        await until(lambda: sum(exporter.batches) == made)  # noqa: B023  # called in this round
        # As a rule that of the exporter is back before another.
        await trio.to_thread.run_sync(lambda: None)
        await until(lambda: len(log.lines) > 1)
    assert sum(line.fields["spans"] for line in log.lines) == made
    assert len(log.lines) <= 1 + minutes
    nursery.cancel_scope.cancel()


async def test_a_receiver_that_hangs_bounds_memory_and_holds_up_no_stop(autojump_clock: MockClock) -> None:
    exporter = Exporter("hang")
    export, tracer, _ = open_export(exporter)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(export.run)
        make_spans(tracer, 1)
        await trio.sleep(2 * INTERVAL_SECONDS)
        make_spans(tracer, MOST_WAITING + 10)
        assert len(export._waiting) == MOST_WAITING
        nursery.cancel_scope.cancel()
    began = trio.current_time()
    await export.finish()
    assert trio.current_time() - began <= FAREWELL_SECONDS + 0.01
    for thread in exporter.threads:
        # A thread that trio keeps for other work has no span any more.
        assert exporter.is_shut_down.is_set(), thread


def test_a_span_that_is_not_sampled_is_not_kept() -> None:
    exporter = Exporter()
    export = BatchExport(exporter, RecordingLog())
    provider = make_provider(service_name=None, sample_ratio=0.0)
    provider.add_span_processor(export)
    tracer = OtelTracer(provider)
    assert not tracer.start("x").is_sampled
    make_spans(tracer, 3)
    assert len(export._waiting) == 0
    # Its caller decides, whatever the ratio is.
    with spanning(
        tracer.start("x", parent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    ) as span:
        assert span.is_sampled
    assert len(export._waiting) == 1


def test_a_block_that_raises_fails_its_span() -> None:
    exporter = Exporter()
    export, tracer, _ = open_export(exporter)
    with pytest.raises(OSError, match="away"), spanning(tracer.start("x")):
        raise OSError("away")
    [span] = export._waiting
    assert (span.status.is_ok, span.status.description) == (False, "OSError")
