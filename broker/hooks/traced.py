"""Hooks whose questions are spans; the application gets their traceparent as a header."""

import attrs

from broker.errors import Refused
from broker.hooks.answers import Allowed
from broker.hooks.ask import Ask, HookKind
from broker.hooks.hooks import Hooks
from broker.traces.tracer import SpanKind, Tracer, spanning


@attrs.frozen(eq=False, kw_only=True)
class TracedHooks(Hooks):
    """See Hooks."""

    tracer: Tracer

    @property
    def is_traced(self) -> bool:
        """See Hooks."""
        return True

    async def decide(self, ask: Ask) -> Allowed:
        """See Hooks; what is allowed has the traceparent of the question, if that is sampled."""
        gate = self.find(ask.kind, ask.room)
        if gate is None:
            return await super().decide(ask)
        # A connection lives long: only its beginning belongs to the request that has opened it.
        is_of_request = ask.kind is HookKind.CONNECT or ask.caller.transport == "event_stream"
        attributes = {"greenroom.hook": gate.name}
        if ask.room is not None:
            attributes["greenroom.room"] = ask.room
        span = self.tracer.start(
            f"hook {ask.kind}",
            SpanKind.CLIENT,
            parent=ask.caller.traceparent if is_of_request else None,
            attributes=attributes,
        )
        refusal = None
        with spanning(span):
            try:
                allowed = await gate.decide(attrs.evolve(ask, traceparent=span.traceparent))
            except Refused as refused:
                # An answer like any other.
                refusal = refused
                span.note("greenroom.refused", refused.code.value)
        if refusal is not None:
            raise refusal
        return attrs.evolve(allowed, traceparent=span.traceparent) if span.is_sampled else allowed
