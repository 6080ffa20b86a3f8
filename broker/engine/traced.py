"""An engine, and its store of rooms with code, whose appends of traced events are spans; all else is the engine's own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from broker.engine.base import Engine, Receipt, Retention
from broker.engine.room_store import RoomStore, StoredState, StoredTurn, drafts_of
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

    @property
    def room_store(self) -> RoomStore | None:
        store = self._engine.room_store
        return None if store is None else cast("RoomStore", _TracedRoomStore(store, self))

    async def append(self, room: str, drafts: Sequence[Draft], retention: Retention) -> Sequence[Receipt]:
        with self.spans(room, drafts):
            return await self._engine.append(room, drafts, retention)

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

    @contextmanager
    def spans(self, room: str, drafts: Sequence[Draft]) -> Iterator[None]:
        """Have a span for each traced draft while they are stored together."""
        spans = [self._start(room, draft, len(drafts)) for draft in drafts if draft.header.traceparent]
        error = "cancelled"
        try:
            yield
            error = ""
        except Exception as failure:
            error = type(failure).__name__
            raise
        finally:
            for span in spans:
                _end(span, error)

    def _start(self, room: str, draft: Draft, drafts: int) -> Span:
        attributes: Attributes = {"greenroom.room": room, "greenroom.batch": drafts}
        return self._tracer.start("append", parent=draft.header.traceparent, attributes=attributes)


class _TracedRoomStore:
    def __init__(self, store: RoomStore, engine: _TracedEngine) -> None:
        self._store = store
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def store(
        self,
        room: str,
        turns: Sequence[StoredTurn],
        state: StoredState | None,
        retention: Retention,
        *,
        is_state_changed: bool,
    ) -> Sequence[Sequence[Receipt]]:
        with self._engine.spans(room, drafts_of(turns)):
            return await self._store.store(room, turns, state, retention, is_state_changed=is_state_changed)


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
