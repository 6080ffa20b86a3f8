"""What rooms that applications write store: turns, whole or not at all; over every engine that has a store for them."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from broker.engine.base import Engine, Receipt, Retention
from broker.engine.outbox import Kind, Queue
from broker.engine.room_store import (
    Answer,
    DueTimer,
    RoomStore,
    StoredAnswer,
    StoredRoom,
    StoredState,
    StoredTurn,
)
from broker.model import Draft, IdempotencyKey
from tests.engine.contract.test_contract_machine import Loop

if TYPE_CHECKING:
    from tests.engine.contract.conftest import OpenEngine, Wall

KEEP = Retention(1000, 1_000_000, 86_400.0)
WINDOW_SECONDS = 300.0
NOW_MS = 1_700_000_000_000
KEY = IdempotencyKey("ann", "k")
STATE = StoredState("Counter", 1, b'{"n":1}')


@pytest.fixture
async def store(engine: Engine) -> RoomStore:
    store = store_of(engine)
    await own(store, "den", "attic", "cellar")
    return store


async def own(store: RoomStore, *rooms: str) -> None:
    """Load rooms, without which a shared store stores nothing."""
    for room in rooms:
        await store.load(room)


def store_of(engine: Engine) -> RoomStore:
    assert engine.room_store is not None
    return engine.room_store


def draft(number: int, *, ephemeral: bool = False) -> Draft:
    return Draft(b'{"type":"n","n":%d}' % number, ephemeral)


def offsets(receipts: Sequence[Receipt]) -> list[int | None]:
    return [None if receipt.position is None else receipt.position.offset for receipt in receipts]


async def save(store: RoomStore, room: str, *turns: StoredTurn) -> Sequence[Sequence[Receipt]]:
    return await store.store(room, turns, None, KEEP, is_state_changed=False)


async def save_state(store: RoomStore, room: str, state: StoredState | None) -> None:
    assert list(await store.store(room, [], state, KEEP, is_state_changed=True)) == []


async def test_a_room_of_which_nothing_is_stored(engine: Engine, store: RoomStore) -> None:
    await engine.append("den", [draft(1)], KEEP)
    assert await store.load("den") == await store.load("attic") == StoredRoom()
    assert await store.recall("den", KEY) is None
    assert list(await store.earliest_timers(10)) == []


async def test_a_state_is_replaced_kept_and_deleted(engine: Engine, store: RoomStore) -> None:
    later = StoredState("Größer", 2**31, b'{"x":"' + b"x" * 100_000 + b'"}')
    for state in (STATE, later, STATE):
        await save_state(store, "den", state)
        assert await store.load("den") == StoredRoom(state)
    await store.store("den", [StoredTurn([draft(1)])], later, KEEP, is_state_changed=False)
    await store.store("den", [StoredTurn(timers={"a": 1})], None, KEEP, is_state_changed=False)
    assert (await store.load("den")).state == STATE
    await save_state(store, "attic", later)
    await save_state(store, "den", None)
    await save_state(store, "cellar", None)
    assert await store.load("den") == StoredRoom(None, {"a": 1})
    assert await store.load("attic") == StoredRoom(later)
    assert await store.load("cellar") == StoredRoom()
    assert [(await engine.position(room)).offset for room in ("den", "attic")] == [1, 0]


async def test_timers_are_set_moved_and_removed(store: RoomStore) -> None:
    await save(store, "den", StoredTurn(timers={"a": 30, "b": 10, "c": -5}))
    await save(store, "attic", StoredTurn(timers={"a": 20}))
    earliest = [
        DueTimer("den", "c", -5),
        DueTimer("den", "b", 10),
        DueTimer("attic", "a", 20),
        DueTimer("den", "a", 30),
    ]
    for limit in (0, 1, 3, 4, 100):
        assert list(await store.earliest_timers(limit)) == earliest[:limit]
    # In the order of the turns; there and back; and one that is not set.
    await save(
        store,
        "den",
        StoredTurn(timers={"a": 5, "b": None, "c": None, "none": None}),
        StoredTurn(timers={"a": 7, "c": 40}),
        StoredTurn(timers={"a": 30}),
    )
    assert await store.load("den") == StoredRoom(None, {"a": 30, "c": 40})
    assert list(await store.earliest_timers(100)) == [
        DueTimer("attic", "a", 20),
        DueTimer("den", "a", 30),
        DueTimer("den", "c", 40),
    ]
    await save(store, "den", StoredTurn(timers={"a": None, "c": None}))
    await save(store, "attic", StoredTurn(timers={"a": None}))
    assert list(await store.earliest_timers(100)) == []
    assert await store.load("den") == StoredRoom()


async def test_an_answer_has_the_position_of_the_draft_of_its_own_turn(store: RoomStore) -> None:
    keys = [IdempotencyKey("ann", str(number)) for number in range(4)]
    turns = [
        StoredTurn([draft(1), draft(2)], answer=StoredAnswer(keys[0], draft=1)),
        StoredTurn([draft(3, ephemeral=True), draft(4)], answer=StoredAnswer(keys[1], b"1", 1)),
        StoredTurn([draft(5)], answer=StoredAnswer(keys[2], b"2")),
        StoredTurn([draft(6, ephemeral=True)], answer=StoredAnswer(keys[3], b"3", 0)),
    ]
    receipts = [receipt for each in await save(store, "den", *turns) for receipt in each]
    assert [await store.recall("den", key) for key in keys] == [
        Answer(b"", receipts[1].position),
        Answer(b"1", receipts[3].position),
        Answer(b"2"),
        Answer(b"3"),
    ]


async def test_answers_are_recalled_until_their_window_ends(store: RoomStore, wall: "Wall") -> None:
    keys = [IdempotencyKey(scope, key) for scope in ("ann", "http") for key in ("k", "ü\0")]
    answers = [Answer(b"%d" % number) for number in range(4)]
    await save(
        store,
        "den",
        *(
            StoredTurn(answer=StoredAnswer(key, answer.content))
            for key, answer in zip(keys, answers, strict=True)
        ),
    )
    assert [await store.recall("den", key) for key in keys] == answers
    assert await store.recall("attic", keys[0]) is None
    wall.now += WINDOW_SECONDS - 1
    assert [await store.recall("den", key) for key in keys] == answers
    # The window of an answer that is stored again begins anew.
    await save(store, "den", StoredTurn(answer=StoredAnswer(keys[0], b"again")))
    wall.now += 1
    assert [await store.recall("den", key) for key in keys] == [Answer(b"again"), None, None, None]
    wall.now += WINDOW_SECONDS - 2
    assert await store.recall("den", keys[0]) == Answer(b"again")
    wall.now += 1
    assert await store.recall("den", keys[0]) is None


async def test_steps_of_the_wall_clock_neither_move_timers_nor_end_windows(
    open_engine_under_test: "OpenEngine", wall: "Wall"
) -> None:
    boot = 1000.0
    async with open_engine_under_test(wall, lambda: boot) as engine:
        store = store_of(engine)
        await own(store, "den")
        assert store.now_ms() == NOW_MS
        await save(store, "den", StoredTurn(answer=StoredAnswer(KEY, b"1")))
        wall.now += 86_400.0
        assert store.now_ms() == NOW_MS
        assert await store.recall("den", KEY) == Answer(b"1")
        boot += 0.25
        assert store.now_ms() == NOW_MS + 250
        wall.now -= 2 * 86_400.0
        boot += WINDOW_SECONDS
        assert store.now_ms() == NOW_MS + 250 + int(WINDOW_SECONDS * 1000)
        assert await store.recall("den", KEY) is None


async def test_turns_have_receipts_of_their_own_in_their_order(engine: Engine, store: RoomStore) -> None:
    await engine.append("den", [draft(0)], KEEP)
    turns = [
        StoredTurn([draft(1), draft(2)], answer=StoredAnswer(KEY, b"1")),
        StoredTurn(),
        StoredTurn([draft(3, ephemeral=True), draft(4), draft(5, ephemeral=True)], {"a": 1}),
        StoredTurn([draft(6, ephemeral=True)]),
    ]
    receipts = await store.store("den", turns, STATE, KEEP, is_state_changed=True)
    assert [offsets(each) for each in receipts] == [[2, 3], [], [None, 4, None], [None]]
    for turn, each in zip(turns, receipts, strict=True):
        assert [receipt.event and receipt.event.content for receipt in each] == [
            draft.content for draft in turn.drafts
        ]
        assert {receipt.event and receipt.event.time_ms for receipt in each} <= {NOW_MS}
    run = await engine.read("den")
    assert [event.content for event in run.events] == [draft(n).content for n in (0, 1, 2, 4)]
    assert {receipt.position.epoch for each in receipts for receipt in each if receipt.position} == {
        run.position.epoch
    }
    [again] = await engine.append("den", [draft(7)], KEEP)
    assert offsets([again]) == [5]
    assert await store.load("den") == StoredRoom(STATE, {"a": 1})
    assert await store.recall("den", KEY) == Answer(b"1")


@pytest.mark.parametrize("has_timer", [False, True])
async def test_turns_without_lasting_drafts_leave_the_position(
    engine: Engine, store: RoomStore, has_timer: bool
) -> None:
    before = await engine.position("den")
    timers = {"a": 1} if has_timer else {}
    receipts = await save(store, "den", StoredTurn(timers=timers), StoredTurn([draft(1, ephemeral=True)]))
    assert [offsets(each) for each in receipts] == [[], [None]]
    assert list(await save(store, "den")) == []
    assert await engine.position("den") == before
    assert (await engine.read("den")).events == ()
    assert (await store.load("den")).timers == timers


async def test_history_is_kept_as_the_retention_says(engine: Engine, store: RoomStore, wall: "Wall") -> None:
    """The state and the timers outlive it, and its epoch."""
    turns = [StoredTurn([draft(n), draft(n)], {"a": NOW_MS}) for n in range(3)]
    await store.store("den", turns, STATE, Retention(2, 1_000_000, 60.0), is_state_changed=True)
    assert [event.offset for event in (await engine.read("den")).events] == [5, 6]
    assert await engine.clear("den") == 2
    assert await store.load("den") == StoredRoom(STATE, {"a": NOW_MS})
    before = await engine.position("den")
    for _ in range(5):
        wall.now += 100 * 86_400.0
        await engine.append("attic", [draft(1)], KEEP)
        await save(store, "attic", StoredTurn(answer=StoredAnswer(KEY, b"1")))
    if not store.is_shared:  # Redis' own clock, which no test moves, ends what is shared
        after = await engine.position("den")
        assert after.epoch != before.epoch
        assert after.offset == 0
    assert await store.load("den") == StoredRoom(STATE, {"a": NOW_MS})
    assert list(await store.earliest_timers(1)) == [DueTimer("den", "a", NOW_MS)]


@pytest.mark.parametrize("has_state", [False, True])
async def test_events_of_turns_are_written_to_the_outbox(
    open_engine_under_test: "OpenEngine", wall: "Wall", has_state: bool
) -> None:
    async with open_engine_under_test(wall, queues=[Queue("all", frozenset(Kind))]) as engine:
        assert engine.outbox is not None
        turns = [
            StoredTurn([draft(1), draft(2, ephemeral=True)]),
            StoredTurn([draft(3)], answer=StoredAnswer(KEY, b"1") if has_state else None),
        ]
        await own(store_of(engine), "den")
        await store_of(engine).store("den", turns, STATE, KEEP, is_state_changed=has_state)
        [partition] = engine.outbox.partitions
        entries = await engine.outbox.read(partition, "all", limit=10)
        fields = [json.loads(bytes(entry.fields)) for entry in entries]
        assert [(each["offset"], each["content"]["n"]) for each in fields] == [(1, 1), (2, 3)]


ROOMS = ("den", "Ätti\N{DUCK} c", "%_'\"")
NAMES = ("", "a", "\0", "a\0", "\N{DUCK}'; --", "e\u0301", "\u00e9")

rooms = st.sampled_from(ROOMS)
keys = st.builds(IdempotencyKey, st.sampled_from(["ann", ""]), st.sampled_from(NAMES[:3]))
drafts = st.lists(st.builds(draft, st.integers(0, 9), ephemeral=st.booleans()), max_size=2)
timers = st.dictionaries(st.sampled_from(NAMES), st.none() | st.integers(-2, 3), max_size=3)


@st.composite
def turn(choose: st.DrawFn) -> StoredTurn:
    said = choose(drafts)
    places = st.none() | st.integers(0, len(said) - 1) if said else st.none()
    answers = st.builds(StoredAnswer, keys, st.binary(max_size=3), places)
    return StoredTurn(said, choose(timers), choose(st.none() | answers))


turns_of_a_room = st.lists(turn(), max_size=3)
states = st.none() | st.builds(StoredState, st.text(max_size=2), st.integers(0, 3), st.binary(max_size=3))


class StoreMachine(RuleBasedStateMachine):
    """Any stores, with time passing, against a model."""

    def __init__(self, open_engine: "OpenEngine") -> None:
        super().__init__()
        self.now = NOW_MS / 1000
        self.loop = Loop(lambda: open_engine(lambda: self.now))
        self.store = store_of(self.loop.engine)
        self.loop.call(lambda: own(self.store, *ROOMS))
        self.states: dict[str, StoredState | None] = {}
        self.timers: dict[str, dict[str, int]] = {room: {} for room in ROOMS}
        self.answers: dict[tuple[str, IdempotencyKey], tuple[Answer, float]] = {}
        self.offsets = dict.fromkeys(ROOMS, 0)

    def teardown(self) -> None:
        self.loop.close()

    @rule(seconds=st.sampled_from([1.0, 150.0, 299.0, 300.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.now += seconds

    @rule(room=rooms, turns=turns_of_a_room, state=states, is_state_changed=st.booleans())
    def save(
        self, room: str, turns: list[StoredTurn], state: StoredState | None, is_state_changed: bool
    ) -> None:
        receipts = self.loop.call(
            lambda: self.store.store(room, turns, state, KEEP, is_state_changed=is_state_changed)
        )
        if is_state_changed:
            self.states[room] = state
        for turn, got in zip(turns, receipts, strict=True):
            expected: list[int | None] = []
            for each in turn.drafts:
                self.offsets[room] += not each.ephemeral
                expected.append(None if each.ephemeral else self.offsets[room])
            assert offsets(got) == expected
            merged = {**self.timers[room], **turn.timers}
            self.timers[room] = {name: due for name, due in merged.items() if due is not None}
            if turn.answer is not None:
                self.answers[room, turn.answer.key] = (turn.answer.of(got), self.now + WINDOW_SECONDS)

    @rule(room=rooms)
    def load(self, room: str) -> None:
        loaded = self.loop.call(lambda: self.store.load(room))
        assert loaded == StoredRoom(self.states.get(room), self.timers[room])

    @rule(room=rooms, key=keys)
    def recall(self, room: str, key: IdempotencyKey) -> None:
        answer, expires_at = self.answers.get((room, key), (None, 0.0))
        recalled = self.loop.call(lambda: self.store.recall(room, key))
        assert recalled == (answer if self.now < expires_at else None)

    @rule(limit=st.integers(0, 30))
    def ask_for_timers(self, limit: int) -> None:
        every = [(due, room, name) for room, timers in self.timers.items() for name, due in timers.items()]
        found = list(self.loop.call(lambda: self.store.earliest_timers(limit)))
        assert [each.due_ms for each in found] == sorted(due for due, _, _ in every)[:limit]
        places = [(each.due_ms, each.room, each.name) for each in found]
        assert len(set(places)) == len(places)
        assert set(places) <= set(every)


def test_a_store_agrees_with_a_model(open_engine_under_test: "OpenEngine") -> None:
    class Machine(StoreMachine):
        def __init__(self) -> None:
            super().__init__(open_engine_under_test)

    run_state_machine_as_test(
        Machine, settings=settings(max_examples=10, stateful_step_count=25, deadline=None)
    )
