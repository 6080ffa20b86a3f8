"""Requests of webhooks that are spans: below the first traced entry of a batch, and linked to the others."""

import attrs
import msgspec

from broker.traces.tracer import SpanKind, Tracer, spanning
from broker.webhooks.batches import Batch
from broker.webhooks.delivery import Poster
from broker.webhooks.progress import Failure


class _Fields(msgspec.Struct, frozen=True):
    traceparent: str | None = None


_fields = msgspec.json.Decoder(_Fields)


@attrs.frozen
class TracedPoster:
    """See Poster."""

    _poster: Poster
    _tracer: Tracer
    _webhook: str

    async def post(self, batch: Batch, traceparent: str | None = None) -> Failure | None:
        """See Poster."""
        parents = [
            parent
            for entry in batch.entries
            if (parent := _fields.decode(entry.fields).traceparent) is not None
        ]
        if not parents:
            return await self._poster.post(batch, traceparent)
        first, *others = dict.fromkeys(parents)
        span = self._tracer.start(
            "webhook",
            SpanKind.CLIENT,
            parent=first,
            links=others,
            attributes={"greenroom.webhook": self._webhook, "greenroom.entries": len(batch.entries)},
        )
        with spanning(span):
            failure = await self._poster.post(batch, span.traceparent)
            if failure is not None:
                span.fail(failure.reason.value)
            return failure
