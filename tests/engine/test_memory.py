"""The memory that the memory engine frees, and when. The contract tests the rest."""

import gc
import itertools
import sys
import tracemalloc
from itertools import count

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from broker.config.settings import ServerSettings, Settings
from broker.engine.base import Retention
from broker.engine.memory import EVENT_BYTES, ROOM_BYTES, UNTOUCHED_SECONDS, MemoryEngine
from broker.engine.open import ENGINE_SCHEMES, open_engine
from broker.errors import ConfigurationError
from broker.log import stdlib_log
from broker.model import Draft, EventHeader, IdempotencyKey

HOUR = 3600.0
WINDOW_SECONDS = 300.0


class World:
    """An engine, and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        epochs = count(1)
        self.engine = MemoryEngine(
            wall_clock=lambda: self.now,
            idempotency_seconds=WINDOW_SECONDS,
            make_epoch=lambda: f"epoch {next(epochs)}",
        )

    async def say(self, room: str, age_seconds: float) -> str:
        """Say something in a room and return the room's epoch."""
        await self.engine.append(room, [Draft(b"{}")], Retention(10, 1000, age_seconds))
        return (await self.engine.position(room)).epoch

    async def sweep(self) -> None:
        """Rooms are forgotten while others are appended to."""
        await self.say("other", HOUR)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("age_seconds", "kept_seconds"), [(HOUR, HOUR), (10.0, WINDOW_SECONDS), (0.0, WINDOW_SECONDS)]
)
async def test_a_room_is_forgotten_once_its_events_and_keys_are_gone(
    world: World, age_seconds: float, kept_seconds: float
) -> None:
    epoch = await world.say("den", age_seconds)
    world.now += kept_seconds - 1
    await world.sweep()
    assert (await world.engine.position("den")).epoch == epoch
    world.now += 1
    await world.sweep()
    again = await world.engine.position("den")
    assert (again.epoch, again.offset) != (epoch, 1)
    assert again.offset == 0


async def test_an_append_keeps_a_room_from_being_forgotten(world: World) -> None:
    epoch = await world.say("den", HOUR)
    for _ in range(5):
        world.now += HOUR - 1
        assert await world.say("den", HOUR) == epoch
    assert (await world.engine.position("den")).offset == 6


async def test_a_room_where_nothing_was_said_keeps_its_epoch_for_a_while(world: World) -> None:
    epoch = (await world.engine.position("den")).epoch
    world.now += UNTOUCHED_SECONDS - 1
    await world.sweep()
    assert (await world.engine.position("den")).epoch == epoch
    world.now += 1
    await world.sweep()
    assert (await world.engine.position("den")).epoch != epoch


@pytest.mark.parametrize("is_touched_first", [False, True])
async def test_a_room_kept_for_long_does_not_keep_the_others(world: World, is_touched_first: bool) -> None:
    await world.say("archive", 1000 * HOUR)
    await world.engine.position("waiting room")
    if is_touched_first:
        await world.engine.position("den")
    epoch = await world.say("den", HOUR)
    world.now += HOUR
    await world.sweep()
    assert (await world.engine.position("den")).epoch != epoch


async def test_a_room_that_is_kept_for_longer_than_it_was_is_kept(world: World) -> None:
    epoch = await world.say("den", HOUR)
    await world.say("den", 3 * HOUR)
    for _ in range(2):
        world.now += HOUR
        await world.sweep()
        assert (await world.engine.position("den")).epoch == epoch
    assert await world.say("den", HOUR) == epoch
    world.now += HOUR
    await world.sweep()
    assert (await world.engine.position("den")).epoch != epoch


async def test_memory_does_not_grow_with_expired_events_and_keys(world: World) -> None:
    async def publish_in_rooms(count: int) -> int:
        """Publish once in each of so many new rooms; returns how many blocks of memory are in use then."""
        for _ in range(count):
            number = next(numbers)
            draft = Draft(b'{"number":%d}' % number, key=IdempotencyKey("ann", str(number)))
            await world.engine.append(f"room {number}", [draft], Retention(10, 1000, 60.0))
            world.now += 10
        gc.collect()
        return sys.getallocatedblocks()

    numbers = itertools.count()
    before = await publish_in_rooms(1000)
    assert await publish_in_rooms(5000) - before < 1000


async def test_a_cancelled_reader_hears_of_it(world: World) -> None:
    for ask in (
        lambda: world.engine.position("den"),
        lambda: world.engine.read("den"),
        world.engine.wait_ready,
    ):
        with trio.CancelScope() as scope:
            scope.cancel()
            await ask()
        assert scope.cancelled_caught


@pytest.mark.parametrize("url", ["memory://", "memory://anything"])
async def test_an_engine_is_opened_by_its_scheme(url: str) -> None:
    settings = Settings(server=ServerSettings(engine=url))
    async with open_engine(settings, wall_clock=lambda: 0.0, log=stdlib_log()) as engine:
        await engine.wait_ready()


@pytest.mark.parametrize("url", ["", "sqlit:///x", "memory:"])
async def test_an_unknown_scheme_is_refused_with_the_list_of_engines(url: str) -> None:
    settings = Settings(server=ServerSettings(engine=url))
    with pytest.raises(ConfigurationError, match=f"is none of {', '.join(ENGINE_SCHEMES)}"):
        async with open_engine(settings, wall_clock=lambda: 0.0, log=stdlib_log()):
            pytest.fail("opened")


def bounded(total_bytes: int) -> MemoryEngine:
    return MemoryEngine(
        wall_clock=lambda: 1_700_000_000.0, idempotency_seconds=WINDOW_SECONDS, total_bytes=total_bytes
    )


def held(engine: MemoryEngine) -> int:
    history_bytes = engine.statistics().history_bytes
    assert history_bytes is not None
    return history_bytes


async def test_past_the_bound_the_rooms_idle_for_longest_begin_a_new_epoch() -> None:
    engine = bounded(4 * (ROOM_BYTES + EVENT_BYTES + 1000))
    keep = Retention(1000, 1 << 20, HOUR)
    say = [Draft(b"x" * 1000)]
    for room in ("a", "b", "c", "d"):
        await engine.append(room, say, keep)
    await engine.append("a", [Draft(b"{}", ephemeral=True)], keep)
    epochs = {room: (await engine.position(room)).epoch for room in "abcd"}
    assert engine.statistics().rooms_evicted == 0
    await engine.append("e", say, keep)
    assert engine.statistics().rooms_evicted == 1
    runs = {room: await engine.read(room) for room in "acde"}
    assert all(runs[room].position.epoch == epochs[room] for room in "acd")
    [receipt] = await engine.append("b", say, keep)
    assert receipt.position is not None
    assert receipt.position.epoch != epochs["b"]
    assert receipt.position.offset == 1


async def test_a_repetition_is_recognised_after_its_room_was_forgotten() -> None:
    engine = bounded(2 * ROOM_BYTES)
    keep = Retention(1000, 1 << 20, HOUR)
    draft = Draft(b"{}", key=IdempotencyKey("ann", "k"))
    [first] = await engine.append("den", [draft], keep)
    for number in range(3):
        await engine.append(f"room {number}", [Draft(b"{}")], keep)
    assert (await engine.position("den")).offset == 0
    [again] = await engine.append("den", [draft], keep)
    assert (again.position, again.event) == (first.position, None)


@given(
    st.integers(1, 60_000),
    st.lists(
        st.tuples(
            st.sampled_from(["append", "read", "position", "pass"]),
            st.integers(0, 8),
            st.integers(2, 9000),
            st.integers(1, 4),
            st.sampled_from([0, 3000, 1 << 20]),
        ),
        max_size=60,
    ),
)
def test_all_histories_together_stay_within_the_bound(
    total_bytes: int, steps: list[tuple[str, int, int, int, int]]
) -> None:
    now = [1_700_000_000.0]
    engine = MemoryEngine(
        wall_clock=lambda: now[0], idempotency_seconds=WINDOW_SECONDS, total_bytes=total_bytes
    )

    async def play() -> None:
        for step, number, size, drafts, keep_bytes in steps:
            room = f"room {number}"
            match step:
                case "append":
                    await engine.append(room, [Draft(b"x" * size)] * drafts, Retention(3, keep_bytes, 600.0))
                case "read":
                    await engine.read(room)
                case "position":
                    await engine.position(room)
                case _:
                    now[0] += size / 10
            logs = engine._logs.values()
            assert held(engine) == sum(log.memory_bytes for log in logs)
            # A single room is never forgotten for its own sake.
            assert held(engine) <= max(total_bytes, ROOM_BYTES)
            assert all(log.bytes == sum(len(event.content) for event in log.events) for log in logs)

    trio.run(play)


def header_of(number: int, name: str, tags: int) -> EventHeader:
    """Return a header that shares no string with another but its sender's."""
    pairs = tuple((f"name {number} {tag}", f"value {number} {tag}") for tag in range(tags))
    return EventHeader("event", f"{number}{name}", "ann", "c-1", pairs)


async def test_the_counted_bytes_are_close_to_the_allocated_ones() -> None:
    """Else the bound would bound nothing. Whatever is made for each room and forgotten with it counts."""
    total_bytes = 2_000_000
    for events, size, name, tags in (
        (0, 0, "", 0),
        (1, 10, "move", 0),
        (20, 10, "move", 0),
        (3, 5000, "move", 0),
        (20, 1000, "\U0001f3ad" * 124, 0),
        (20, 10, "move", 5),
    ):
        engine = bounded(total_bytes)
        gc.collect()
        tracemalloc.start()
        try:
            for number in range(4 * total_bytes // (ROOM_BYTES + events * (EVENT_BYTES + size))):
                room = f"{number:0128}"
                await engine.position(room)
                if events:
                    drafts = [
                        Draft(b"%d" % n + b"x" * size, header=header_of(n, name, tags)) for n in range(events)
                    ]
                    await engine.append(room, drafts, Retention(1000, 1 << 20, HOUR))
            gc.collect()
            taken = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert held(engine) > 0.9 * total_bytes
        assert taken < 1.2 * held(engine)
