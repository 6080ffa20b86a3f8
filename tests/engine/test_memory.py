"""What the engine in memory lets go of, and when. The rest of it is in the contract."""

import gc
import weakref
from itertools import count

import pytest
import trio

from broker.config.settings import ServerSettings, Settings
from broker.engine.base import Retention
from broker.engine.memory import UNTOUCHED_SECONDS, MemoryEngine
from broker.engine.open import ENGINE_SCHEMES, open_engine
from broker.errors import ConfigurationError
from broker.log import stdlib_log
from broker.model import Draft, Event, IdempotencyKey

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


async def test_what_is_said_in_a_room_keeps_it(world: World) -> None:
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


async def test_memory_does_not_grow_with_what_is_past(world: World) -> None:
    made: list[weakref.ref[Event] | weakref.ref[IdempotencyKey]] = []
    for number in range(300):
        key = IdempotencyKey("ann", str(number))
        [receipt] = await world.engine.append(
            f"room {number}", [Draft(b"{}", key=key)], Retention(10, 1000, 60.0)
        )
        assert receipt.event is not None
        made += [weakref.ref(receipt.event), weakref.ref(key)]
        world.now += 10
    del key, receipt
    gc.collect()
    alive = sum(ref() is not None for ref in made)
    assert 0 < alive <= 2 * WINDOW_SECONDS / 10


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
async def test_a_scheme_of_no_engine_is_refused_with_what_there_is(url: str) -> None:
    settings = Settings(server=ServerSettings(engine=url))
    with pytest.raises(ConfigurationError, match=f"is none of {', '.join(ENGINE_SCHEMES)}"):
        async with open_engine(settings, wall_clock=lambda: 0.0, log=stdlib_log()):
            pytest.fail("opened")
