"""Spans of OpenTelemetry. Imported only where traces are on: the SDK takes a second to import."""

from collections.abc import Sequence
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from broker.traces.tracer import Attributes, Span, SpanKind

_KINDS = {
    SpanKind.SERVER: trace.SpanKind.SERVER,
    SpanKind.CLIENT: trace.SpanKind.CLIENT,
    SpanKind.INTERNAL: trace.SpanKind.INTERNAL,
}
_propagator = TraceContextTextMapPropagator()


class OtelTracer:
    """See Tracer: makes the spans of one provider."""

    def __init__(self, provider: trace.TracerProvider) -> None:
        self._tracer = provider.get_tracer("greenroom")
        self.current: ContextVar[str | None] = ContextVar("greenroom.traceparent", default=None)

    def start(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        *,
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
    ) -> Span:
        """See Tracer."""
        contexts = [trace.get_current_span(_context(link)).get_span_context() for link in links]
        span = self._tracer.start_span(
            name,
            _context(parent),
            _KINDS[kind],
            attributes,
            [trace.Link(context) for context in contexts if context.is_valid],
        )
        return _OtelSpan(span)


def _context(traceparent: str | None) -> Context:
    # Never the context of the task: it is that of whoever started the task, which may be another request.
    empty = Context()
    if traceparent is None:
        return empty
    return _propagator.extract({"traceparent": traceparent}, context=empty)


class _OtelSpan:
    """See Span."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = (
            f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags) & 255:02x}"
        )
        self.is_sampled = context.trace_flags.sampled

    def note(self, name: str, value: str | int) -> None:
        """See Span."""
        self._span.set_attribute(name, value)

    def fail(self, reason: str) -> None:
        """See Span."""
        self._span.set_status(trace.StatusCode.ERROR, reason)

    def end(self) -> None:
        """See Span."""
        self._span.end()


def make_provider(*, service_name: str | None, sample_ratio: float | None) -> TracerProvider:
    """Return a provider; what is None is left to the SDK, and so to the variables of its environment (`OTEL_*`)."""
    resource = Resource.create()
    # The SDK's own default is `unknown_service`.
    default = str(resource.attributes.get("service.name", "")).startswith("unknown_service")
    if service_name is not None or default:
        resource = resource.merge(Resource({"service.name": service_name or "greenroom"}))
    sampler = None if sample_ratio is None else ParentBased(TraceIdRatioBased(sample_ratio))
    return TracerProvider(sampler, resource, shutdown_on_exit=False)
