"""Any sequence of appends, reads, hours passing and steps of the wall clock, against a model that forgets nothing.

The model knows no wall clock but for the times that are told: no step of it changes what is held or known.
"""

import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

import attrs
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from broker.engine.base import Engine, Receipt, Retention, Run, is_kept
from broker.model import Draft, IdempotencyKey, Position
from tests.support.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.engine.contract.conftest import OpenEngine

T = TypeVar("T")

WINDOW_SECONDS = 300.0
ROOMS = ("den", "attic")

rooms = st.sampled_from(ROOMS)
keys = st.none() | st.builds(IdempotencyKey, st.sampled_from(["ann", "http"]), st.sampled_from("kl"))
drafts = st.builds(
    Draft,
    st.integers(2, 40).map(lambda size: b"{%b}" % (b" " * (size - 2))),
    st.sampled_from([False] * 3 + [True]),
    keys,
)
retentions = st.builds(
    Retention,
    st.sampled_from([0, 1, 3, 1000]),
    st.sampled_from([0, 50, 1_000_000]),
    st.sampled_from([0.0, 10.0, 3600.0, 86_400.0]),
)
BOOTED_AT = 1_600_000_000.0
steps = st.sampled_from([-3e7, -86_400.0, -3600.0, -2.0, 2.0, 3600.0, 86_400.0, 3e7])
pauses = st.sampled_from([0.0, 1.0, 9.0, 10.0, 150.0, 299.0, 300.0, 3600.0, 86_400.0, 864_000.0])


@attrs.define
class Stored:
    """An event that was stored once, whether it is still held or not."""

    content: bytes
    at: float


@attrs.define
class Past:
    """All that ever happened in one room, in its present epoch."""

    epoch: str = ""
    stored: list[Stored] = attrs.Factory(list)
    trimmed: int = 0
    perhaps_trimmed: int = 0
    """More than `trimmed` when what was past its age was not looked at before an append with a longer one."""
    retention: Retention = attrs.field(factory=lambda: Retention(0, 0, 0.0))
    keys: dict[IdempotencyKey, tuple[int | None, float]] = attrs.Factory(dict)

    @property
    def position(self) -> Position:
        return Position(self.epoch, len(self.stored))

    def count_trimmed(self, now: float) -> int:
        kept = self.stored[self.trimmed :]
        while kept and (
            len(kept) > self.retention.messages
            or sum(len(each.content) for each in kept) > self.retention.bytes
            or kept[0].at <= now - self.retention.age_seconds
        ):
            kept.pop(0)
        return len(self.stored) - len(kept)

    def may_be_forgotten(self, now: float) -> bool:
        """Whether nothing that the engine promised to keep would be lost with the epoch."""
        has_keys = any(now < at + WINDOW_SECONDS for _, at in self.keys.values())
        return max(self.perhaps_trimmed, self.count_trimmed(now)) == len(self.stored) and not has_keys


class Loop:
    """A trio loop in a thread of its own, which holds an engine open between one rule and the next."""

    def __init__(self, open_engine: Callable[[], AbstractAsyncContextManager[Engine]]) -> None:
        self._opened: SimpleQueue[tuple[Engine, trio.lowlevel.TrioToken, trio.Event]] = SimpleQueue()
        self._thread = threading.Thread(target=trio.run, args=(self._main, open_engine), daemon=True)
        self._thread.start()
        self.engine, self._token, self._done = self._opened.get(timeout=PATIENCE_SECONDS)

    async def _main(self, open_engine: Callable[[], AbstractAsyncContextManager[Engine]]) -> None:
        async with open_engine() as engine:
            done = trio.Event()
            self._opened.put((engine, trio.lowlevel.current_trio_token(), done))
            await done.wait()

    def call(self, function: Callable[[], Awaitable[T]]) -> T:
        return trio.from_thread.run(function, trio_token=self._token)

    def close(self) -> None:
        trio.from_thread.run_sync(self._done.set, trio_token=self._token)
        self._thread.join(10)


class EngineMachine(RuleBasedStateMachine):
    """The rules; `check_…` compare an answer of the engine with the model."""

    def __init__(self, open_engine: "OpenEngine") -> None:
        super().__init__()
        self.now = 1_700_000_000.0
        self.skew = 0.0
        self.loop = Loop(lambda: open_engine(lambda: self.now + self.skew, lambda: self.now - BOOTED_AT))
        self.engine = self.loop.engine
        self.pasts = {room: Past() for room in ROOMS}
        self.epochs: set[str] = set()
        self.told: list[tuple[str, Position]] = []

    def teardown(self) -> None:
        self.loop.close()

    def check_position(self, room: str, position: Position) -> Past:
        """Take the room as forgotten if it may be and is; check that it stands where it should."""
        past = self.pasts[room]
        if position.epoch != past.epoch:
            assert position.epoch not in self.epochs, "an epoch came back"
            assert not past.epoch or past.may_be_forgotten(self.now), "the room was forgotten too early"
            self.epochs.add(position.epoch)
            past = self.pasts[room] = Past(position.epoch)
        assert position == past.position
        self.told.append((room, position))
        return past

    def check_first_held(self, room: str, run: Run) -> Past:
        past = self.check_position(room, run.position)
        least = past.count_trimmed(self.now)
        trimmed = run.first_held - 1
        assert least <= trimmed <= max(least, past.perhaps_trimmed)
        past.trimmed = past.perhaps_trimmed = trimmed
        return past

    @rule(seconds=pauses)
    def let_time_pass(self, seconds: float) -> None:
        self.now += seconds

    @rule(seconds=steps)
    def set_wall_clock(self, seconds: float) -> None:
        self.skew += seconds

    @rule(room=rooms)
    def ask_position(self, room: str) -> None:
        self.check_position(room, self.loop.call(lambda: self.engine.position(room)))

    @rule(room=rooms, batch=st.lists(drafts, max_size=5), retention=retentions)
    def append(self, room: str, batch: list[Draft], retention: Retention) -> None:
        before = self.pasts[room]
        if not any(is_kept(draft) for draft in batch):
            # Whether the retention of an append that stores nothing counts is for the engine to say.
            retention = before.retention
        receipts = list(self.loop.call(lambda: self.engine.append(room, batch, retention)))
        after = self.loop.call(lambda: self.engine.position(room))
        past = before
        if after.epoch != before.epoch:
            past = self.check_position(room, Position(after.epoch, 0))
        past_age = past.count_trimmed(self.now)
        past.retention = retention
        assert receipts == [
            self.store(past, draft, receipt) for draft, receipt in zip(batch, receipts, strict=True)
        ]
        self.check_position(room, after)
        past.trimmed = past.count_trimmed(self.now)
        past.perhaps_trimmed = max(past.perhaps_trimmed, past.trimmed, past_age)

    def store(self, past: Past, draft: Draft, receipt: Receipt) -> Receipt:
        """Put a draft into the model; returns the receipt that it should have been given."""
        if draft.key is not None and draft.key in past.keys:
            offset, at = past.keys[draft.key]
            if self.now < at + WINDOW_SECONDS:
                return Receipt(None if offset is None else Position(past.epoch, offset), None)
        if not draft.ephemeral:
            past.stored.append(Stored(draft.content, self.now))
        offset = None if draft.ephemeral else len(past.stored)
        if draft.key is not None:
            past.keys[draft.key] = (offset, self.now)
        event = receipt.event
        assert event is not None
        assert (event.content, event.offset) == (draft.content, offset)
        # Redis has one clock for all nodes, the others tell what the wall clock shows.
        assert event.time_ms in {int(self.now * 1000), int((self.now + self.skew) * 1000)}
        return Receipt(None if offset is None else past.position, event)

    @rule(room=rooms)
    def clear(self, room: str) -> None:
        self.loop.call(lambda: self.engine.clear(room))
        self.pasts[room].trimmed = self.pasts[room].perhaps_trimmed = len(self.pasts[room].stored)

    @rule(room=rooms, after=st.integers(0, 12), limit=st.none() | st.integers(0, 5), reverse=st.booleans())
    def read(self, room: str, after: int, limit: int | None, reverse: bool) -> None:
        run = self.loop.call(lambda: self.engine.read(room, after=after, limit=limit, reverse=reverse))
        past = self.check_first_held(room, run)
        held = [(number, each.content) for number, each in enumerate(past.stored, 1) if number > past.trimmed]
        asked = [pair for pair in held if pair[0] > after]
        asked = (asked[::-1] if reverse else asked)[:limit]
        assert [(event.offset, event.content) for event in run.events] == asked

    @precondition(lambda self: self.told)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        """One who was told a position asks for what came after."""
        room, since = data.draw(st.sampled_from(self.told))
        run = self.loop.call(lambda: self.engine.read(room, after=since.offset))
        past = self.check_first_held(room, run)
        missed = [each.content for each in past.stored[since.offset :]]
        is_whole = since.epoch == past.epoch and since.offset >= past.trimmed
        assert run.can_continue(since) == is_whole
        if is_whole:
            assert [event.content for event in run.events] == missed

    @invariant()
    def rooms_do_not_share_epochs(self) -> None:
        epochs = [past.epoch for past in self.pasts.values() if past.epoch]
        assert len(set(epochs)) == len(epochs)


def test_an_engine_agrees_with_a_model_that_forgets_nothing(open_engine_under_test: "OpenEngine") -> None:
    class Machine(EngineMachine):
        def __init__(self) -> None:
            super().__init__(open_engine_under_test)

    run_state_machine_as_test(Machine, settings=settings(max_examples=100, stateful_step_count=30))
