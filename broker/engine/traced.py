"""An engine whose appends of traced events are spans; all else is the engine's own."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from broker.engine.base import Engine, Receipt, Retention
from broker.errors import EngineUnavailableError
from broker.model import Draft, Position
from broker.traces.tracer import Attributes, Span, Tracer


def traced_engine(engine: Engine, tracer: Tracer) -> Engine:
    """Return `engine` with spans."""
    # Whatever an engine has besides is looked up in it, so that this need not name it.
    return cast("Engine", _TracedEngine(engine, tracer))


class _TracedEngine:
    def __init__(self, engine: Engine, tracer: Tracer) -> None:
        self._engine = engine
        self._tracer = tracer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def append(self, room: str, drafts: Sequence[Draft], retention: Retention) -> Sequence[Receipt]:
        spans = [self._start(room, draft, len(drafts)) for draft in drafts if draft.header.traceparent]
        error = "cancelled"
        try:
            receipts = await self._engine.append(room, drafts, retention)
        except Exception as failure:
            error = type(failure).__name__
            raise
        else:
            error = ""
            return receipts
        finally:
            for span in spans:
                _end(span, error)

    def append_nowait(self, room: str, draft: Draft, retention: Retention, after: Position) -> Receipt | None:
        span = self._start(room, draft, 1) if draft.header.traceparent else None
        receipt = self._engine.append_nowait(room, draft, retention, after)
        # Without a receipt nothing was done, and `append` has a span of its own.
        if span is not None and receipt is not None:
            span.end()
        return receipt

    def append_soon(
        self,
        room: str,
        draft: Draft,
        retention: Retention,
        on_done: Callable[[Receipt | EngineUnavailableError], None],
    ) -> bool:
        if draft.header.traceparent:
            on_done = partial(_end_and_tell, self._start(room, draft, 1), on_done)
        return self._engine.append_soon(room, draft, retention, on_done)

    def _start(self, room: str, draft: Draft, drafts: int) -> Span:
        attributes: Attributes = {"greenroom.room": room, "greenroom.batch": drafts}
        return self._tracer.start("append", parent=draft.header.traceparent, attributes=attributes)


def _end_and_tell(
    span: Span,
    on_done: Callable[[Receipt | EngineUnavailableError], None],
    result: Receipt | EngineUnavailableError,
) -> None:
    _end(span, type(result).__name__ if isinstance(result, EngineUnavailableError) else "")
    on_done(result)


def _end(span: Span, error: str) -> None:
    if error:
        span.fail(error)
    span.end()
