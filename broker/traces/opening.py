"""Opens the tracer of a configuration, or of the program, for the life of a broker."""

import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import trio

from broker.config.settings import TraceSettings
from broker.errors import ConfigurationError
from broker.log import Log
from broker.traces.tracer import Tracer

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

_TIMEOUTS = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")


def check_traces(settings: TraceSettings) -> None:
    """Check that the packages for traces are there, if they are on.

    :raises ConfigurationError: if not.
    """
    if not settings.enabled:
        return
    for name in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"):
        if not _is_there(name):
            raise ConfigurationError(
                f"traces.enabled: {name} is not installed: pip install 'greenroom[traces]'"
            )


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@asynccontextmanager
async def open_tracer(
    settings: TraceSettings, log: Log, *, provider: "TracerProvider | None" = None
) -> AsyncIterator[Tracer | None]:
    """Open a tracer for the block, None if traces are off.

    The spans go to `provider`, which stays open, or else to the endpoint of the settings.

    :raises ConfigurationError: if the packages for traces are missing.
    """
    if provider is None and not settings.enabled:
        yield None
        return
    check_traces(settings)
    from broker.traces.otel import OtelTracer, make_provider  # noqa: PLC0415

    if provider is not None:
        yield OtelTracer(provider)
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

    from broker.traces.export import EXPORT_SECONDS, BatchExport  # noqa: PLC0415

    timeout_seconds = None if any(name in os.environ for name in _TIMEOUTS) else EXPORT_SECONDS
    exporter = OTLPSpanExporter(settings.endpoint, timeout=timeout_seconds)
    export = BatchExport(exporter, log)
    own = make_provider(service_name=settings.service_name, sample_ratio=settings.sample_ratio)
    own.add_span_processor(export)
    with _quiet_library():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(export.run)
            try:
                yield OtelTracer(own)
            finally:
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await export.finish()


@contextmanager
def _quiet_library() -> Iterator[None]:
    """Keep the library's own lines about failed exports from standard error: one of ours says it."""
    logger = logging.getLogger("opentelemetry.exporter")
    before, logger.propagate = logger.propagate, False
    handler = logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
