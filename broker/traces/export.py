"""Exports spans in batches: collected in the event loop, sent in a thread, which no task of the loop waits for.

The SDK's own processor has a thread that may outlive a server; this one is a task, and its end is bounded.
"""

from collections import deque
from functools import partial

import trio
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from broker.log import Log
from broker.wakeup import Wakeup

MOST_WAITING = 8192
"""Spans that wait to be exported; further ones are dropped."""

BATCH_SPANS = 512

INTERVAL_SECONDS = 1.0
"""How long spans wait for others to go with."""

EXPORT_SECONDS = 1.5
"""Longest time of an export with its repetitions, and so of its thread, unless OTEL_EXPORTER_OTLP_TIMEOUT is set."""

FAREWELL_SECONDS = 1.0
"""Time for the last spans when the server stops."""

LOG_SECONDS = 60.0


class BatchExport(SpanProcessor):
    """Exports the spans that end, while `run` is running."""

    def __init__(self, exporter: SpanExporter, log: Log) -> None:
        self._exporter = exporter
        self._log = log
        self._waiting: deque[ReadableSpan] = deque()
        self._has_work = Wakeup()
        self._lost = 0
        self._logged_at = float("-inf")
        # An export under way has a thread of its own, and so does the last one.
        self._threads = trio.CapacityLimiter(2)

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        """See SpanProcessor: do nothing."""

    def on_end(self, span: ReadableSpan) -> None:
        """See SpanProcessor: keep a span that is sampled for the next batch."""
        context = span.get_span_context()
        if context is None or not context.trace_flags.sampled:
            return
        if len(self._waiting) >= MOST_WAITING:
            self._lost += 1
            return
        self._waiting.append(span)
        self._has_work.set()

    async def run(self) -> None:
        """Export until cancelled."""
        while True:
            await self._has_work.wait()
            if len(self._waiting) < BATCH_SPANS:
                await trio.sleep(INTERVAL_SECONDS)
            while self._waiting:
                await self._export_some()

    async def finish(self) -> None:
        """Export what is left, for FAREWELL_SECONDS at most, and close the exporter, which ends an export under way."""
        with trio.move_on_after(FAREWELL_SECONDS):
            while self._waiting:
                await self._export_some()
        self._exporter.shutdown()

    async def _export_some(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(BATCH_SPANS, len(self._waiting)))]
        result: SpanExportResult | None = None
        try:
            result = await trio.to_thread.run_sync(
                partial(self._exporter.export, batch), abandon_on_cancel=True, limiter=self._threads
            )
        except Exception as error:  # noqa: BLE001  # whatever an exporter raises loses these spans, and nothing else
            self._note_loss(len(batch), f"{type(error).__name__}: {error}")
            return
        if result is not SpanExportResult.SUCCESS:
            self._note_loss(len(batch), "the receiver did not take them")

    def _note_loss(self, count: int, reason: str) -> None:
        self._lost += count
        now = trio.current_time()
        if now >= self._logged_at + LOG_SECONDS:
            self._log.warning("traces not exported", spans=self._lost, reason=reason[:200])
            self._logged_at, self._lost = now, 0
