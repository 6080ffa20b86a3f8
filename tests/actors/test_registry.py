"""Actors by key: one start for all, put away when idle, started again when needed."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

import attrs
import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from actors import (
    Actor,
    ActorStoppedError,
    Context,
    Ref,
    Registry,
    RegistryStatistics,
    Reply,
    RestartPolicy,
    open_supervisor,
)
from actors.registry import EXAMINED_FOR_ONE, PASSIVATED_PER_SLICE


@attrs.frozen
class Question:
    reply: Reply[str]


Message: TypeAlias = str | Question | Exception


@attrs.define
class House:
    """The behaviour of a test's actors, and their history."""

    diary: list[str] = attrs.Factory(list)
    start_seconds: float = 0.0
    turn_seconds: float = 0.0
    stop_seconds: float = 0.0
    start_errors: list[Exception] = attrs.Factory(list)
    is_idle: bool = True
    is_answering: bool = True

    def make_factory(self, key: str) -> Callable[[], "Guest"]:
        self.diary.append(f"make {key}")
        return lambda: Guest(self, key)


class Guest(Actor[Message]):
    def __init__(self, house: House, key: str) -> None:
        self._house = house
        self._key = key
        self._held: list[Reply[str]] = []

    async def on_start(self, context: Context[Message]) -> None:
        await trio.sleep(self._house.start_seconds)
        if self._house.start_errors:
            raise self._house.start_errors.pop(0)
        self._house.diary.append(f"start {self._key}")

    async def receive(self, message: Message) -> None:
        await trio.sleep(self._house.turn_seconds)
        if isinstance(message, Exception):
            raise message
        if isinstance(message, str):
            self._house.diary.append(message)
        elif self._house.is_answering:
            message.reply.set(f"here is {self._key}")
        else:
            self._held.append(message.reply)

    async def on_stop(self) -> None:
        await trio.sleep(self._house.stop_seconds)
        self._house.diary.append(f"stop {self._key}")

    def is_idle(self) -> bool:
        return self._house.is_idle


Guests: TypeAlias = Registry[str, Message]


@asynccontextmanager
async def guests(
    house: House, *, capacity: int = 100, policy: RestartPolicy | None = None, is_swept: bool = False
) -> AsyncIterator[Guests]:
    async with (
        open_supervisor(policy, on_escalate=lambda _ref, _error: None) as supervisor,
        trio.open_nursery() as nursery,
    ):
        registry: Guests = Registry(
            supervisor, house.make_factory, name="guest", idle_seconds=10, capacity=capacity
        )
        if is_swept:
            nursery.start_soon(registry.run_passivation)
        yield registry
        nursery.cancel_scope.cancel()
    assert len(registry) == 0


async def test_an_actor_is_started_when_first_needed_and_then_kept() -> None:
    house = House()
    async with guests(house) as registry:
        assert registry.peek("ann") is None
        ref = await registry.get("ann")
        assert await registry.get("ann") is ref
        assert registry.peek("ann") is ref
        assert ref.name == "guest ann"
        assert await registry.get("bob") is not ref
        assert (list(registry), len(registry)) == (["ann", "bob"], 2)
        assert registry.statistics() == RegistryStatistics(actors=2, started=2, passivated=0)
    assert house.diary[:4] == ["make ann", "start ann", "make bob", "start bob"]


async def test_callers_waiting_for_a_start_share_it(autojump_clock: object) -> None:
    house = House(start_seconds=1)
    refs: list[Ref[Message]] = []
    async with guests(house) as registry, trio.open_nursery() as nursery:

        async def get() -> None:
            refs.append(await registry.get("ann"))

        for _ in range(10):
            nursery.start_soon(get)
        await trio.sleep(0.5)
        assert registry.peek("ann") is None
        assert list(registry) == ["ann"]
        await trio.sleep(1)
        assert len(refs) == 10
        assert len(set(refs)) == 1
    assert house.diary == ["make ann", "start ann", "stop ann"]


async def test_cancelling_the_first_caller_leaves_the_start_to_the_others(autojump_clock: object) -> None:
    house = House(start_seconds=2)
    async with guests(house) as registry, trio.open_nursery() as nursery:

        async def get_impatiently() -> None:
            with trio.move_on_after(1) as scope:
                await registry.get("ann")
            assert scope.cancelled_caught

        nursery.start_soon(get_impatiently)
        await wait_all_tasks_blocked()
        assert await registry.get("ann") is registry.peek("ann")
    assert house.diary == ["make ann", "start ann", "stop ann"]


async def test_a_failed_start_fails_its_waiters_and_the_next_caller_starts_again(
    autojump_clock: object,
) -> None:
    house = House(start_seconds=1, start_errors=[LookupError("no room")])
    failed = 0
    async with guests(house) as registry:

        async def get() -> None:
            nonlocal failed
            with pytest.raises(LookupError, match="no room"):
                await registry.get("ann")
            failed += 1

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(get)
        assert failed == 3
        assert len(registry) == 0
        await registry.tell("ann", "hello")
    assert house.diary == ["make ann", "make ann", "start ann", "hello", "stop ann"]


async def test_a_make_factory_that_raises_leaves_nothing_behind() -> None:
    def make_factory(key: str) -> Callable[[], Guest]:
        raise KeyError(key)

    async with open_supervisor() as supervisor:
        registry: Guests = Registry(supervisor, make_factory, name="guest", idle_seconds=1)
        with pytest.raises(KeyError):
            await registry.get("ann")
        assert len(registry) == 0


async def test_getting_after_the_end_says_so() -> None:
    house = House()
    async with guests(house) as registry:
        pass
    for call in (registry.get("ann"), registry.tell("ann", "x"), registry.ask("ann", Question)):
        with pytest.raises(ActorStoppedError, match="supervisor is closing"):
            await call


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_getting_during_the_end_says_so(is_cancelled: bool, autojump_clock: object) -> None:
    house = House(start_seconds=2)
    async with trio.open_nursery() as nursery:

        async def tell(registry: Guests) -> None:
            with pytest.raises(ActorStoppedError, match="guest ann was stopped while it started"):
                await registry.tell("ann", "hello")

        with trio.CancelScope() as scope:
            async with guests(house) as registry:
                nursery.start_soon(tell, registry)
                await trio.sleep(1)
                if is_cancelled:
                    scope.cancel()


async def test_tell_and_ask_reach_the_actor() -> None:
    house = House()
    async with guests(house) as registry:
        ref = await registry.tell("ann", "hello")
        assert registry.peek("ann") is ref
        with assert_checkpoints():
            await registry.tell("ann", "again")
        with assert_checkpoints():
            assert await registry.ask("ann", Question) == "here is ann"
    assert house.diary == ["make ann", "start ann", "hello", "again", "stop ann"]


async def test_an_accepted_question_is_not_asked_again_of_the_next_actor(autojump_clock: object) -> None:
    house = House(is_answering=False)
    async with guests(house) as registry, trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(ActorStoppedError):
                await registry.ask("ann", Question)

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        await (await registry.get("ann")).stop()
    assert house.diary == ["make ann", "start ann", "stop ann"]


async def test_an_idle_actor_is_put_away_and_comes_back_when_told(autojump_clock: object) -> None:
    house = House()
    async with guests(house) as registry:
        await registry.tell("ann", "one")
        await trio.sleep(9.9)
        assert registry.passivate_idle() == 0
        await trio.sleep(0.2)
        assert registry.passivate_idle() == 1
        assert registry.passivate_idle() == 0  # it is on its way out
        assert registry.peek("ann") is None
        await registry.tell("ann", "two")
        assert registry.statistics().passivated == 1
        assert registry.statistics().started == 2
    assert house.diary == [
        *("make ann", "start ann", "one", "stop ann"),
        *("make ann", "start ann", "two", "stop ann"),
    ]


async def test_passivation_runs_by_itself(autojump_clock: object) -> None:
    house = House()
    async with guests(house, is_swept=True) as registry:
        await registry.tell("ann", "hello")
        await trio.sleep(7)
        await registry.tell("bob", "hello")
        await trio.sleep(7)
        assert list(registry) == ["bob"]
        await trio.sleep(7)
        assert list(registry) == []
        assert registry.statistics().passivated == 2


async def test_getting_an_actor_counts_as_a_use(autojump_clock: object) -> None:
    async with guests(House(), is_swept=True) as registry:
        ref = await registry.get("ann")
        for _ in range(10):
            await trio.sleep(7)
            assert await registry.get("ann") is ref


async def test_no_time_at_all_is_not_idle() -> None:
    async with open_supervisor() as supervisor:
        with pytest.raises(ValueError, match="above 0"):
            Registry(supervisor, House().make_factory, name="guest", idle_seconds=0)


async def test_an_actor_that_is_not_idle_is_never_put_away(autojump_clock: object) -> None:
    house = House(is_idle=False)
    async with guests(house, is_swept=True) as registry:
        await registry.get("ann")
        await trio.sleep(1000)
        assert registry.peek("ann") is not None
        house.is_idle = True
        await trio.sleep(5)
        assert registry.peek("ann") is None


async def test_an_actor_at_work_is_not_put_away(autojump_clock: object) -> None:
    house = House(turn_seconds=100)
    async with guests(house, is_swept=True) as registry:
        await registry.tell("ann", "long work")
        await trio.sleep(99)
        assert registry.peek("ann") is not None
        await trio.sleep(10)  # idle seconds count from the end of the work
        assert registry.peek("ann") is not None
        await trio.sleep(5)
        assert registry.peek("ann") is None


async def test_an_actor_that_was_just_told_something_is_not_put_away(autojump_clock: object) -> None:
    async with guests(House()) as registry:
        ref = await registry.get("ann")
        await trio.sleep(100)
        ref.tell_nowait("hello")
        assert registry.passivate_idle() == 0


async def test_an_actor_that_owes_an_answer_is_not_put_away(autojump_clock: object) -> None:
    house = House(is_answering=False)
    async with guests(house, is_swept=True) as registry:
        with trio.move_on_after(1000) as scope:
            await registry.ask("ann", Question)
        assert scope.cancelled_caught  # and did not raise ActorStoppedError before
        assert registry.peek("ann") is not None
        await trio.sleep(20)
        assert registry.peek("ann") is None


async def test_an_actor_that_is_starting_or_waiting_for_its_restart_is_not_put_away(
    autojump_clock: object,
) -> None:
    house = House(start_seconds=50)
    policy = RestartPolicy(intensity=5, period_seconds=1000, backoff_seconds=100, backoff_max_seconds=100)
    async with guests(house, policy=policy, is_swept=True) as registry:
        await registry.tell("ann", ValueError())
        await registry.tell("ann", ValueError())
        await trio.sleep(1)
        await registry.tell("ann", "after all that")
        await trio.sleep(300)
    assert house.diary.count("make ann") == 1
    assert house.diary[-2:] == ["after all that", "stop ann"]


async def test_the_next_actor_starts_only_after_the_last_has_stopped(autojump_clock: object) -> None:
    house = House(stop_seconds=3)
    async with guests(house) as registry, trio.open_nursery() as nursery:
        await registry.get("ann")
        await trio.sleep(10)
        registry.passivate_idle()
        for number in range(3):
            nursery.start_soon(registry.tell, "ann", f"message {number}")
    assert house.diary[:5] == ["make ann", "start ann", "stop ann", "make ann", "start ann"]
    assert sorted(house.diary[5:8]) == ["message 0", "message 1", "message 2"]


async def test_many_idle_actors_are_put_away_some_at_a_turn(autojump_clock: object) -> None:
    house, turns, stops = House(), Turns(), Counter[int]()

    class Leaver(Guest):
        async def on_stop(self) -> None:
            stops[turns.count] += 1

    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        registry: Guests = Registry(
            supervisor, lambda key: lambda: Leaver(house, key), name="guest", idle_seconds=10
        )
        nursery.start_soon(registry.run_passivation)
        for number in range(10 * PASSIVATED_PER_SLICE):
            await registry.get(str(number))
        trio.lowlevel.add_instrument(turns)
        await trio.sleep(20)
        trio.lowlevel.remove_instrument(turns)
        assert stops.total() == registry.statistics().passivated == 10 * PASSIVATED_PER_SLICE
        assert max(stops.values()) <= 2 * PASSIVATED_PER_SLICE
        nursery.cancel_scope.cancel()


class Turns(trio.abc.Instrument):
    """Counts how often trio has let all tasks take a step that could."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


@pytest.mark.parametrize("way", ["passivated", "stopped", "given up", "failed to start"])
async def test_the_end_of_each_actor_is_told_however_it_comes_about(way: str, autojump_clock: object) -> None:
    house, ended = House(), list[str]()
    if way == "failed to start":
        house.start_errors.append(ValueError("no"))
    async with open_supervisor(
        RestartPolicy(intensity=0), on_escalate=lambda _ref, _error: None
    ) as supervisor:
        registry: Guests = Registry(
            supervisor, house.make_factory, name="guest", idle_seconds=10, on_stopped=ended.append
        )
        with suppress(ValueError):
            ref = await registry.get("ann")
            if way == "passivated":
                await trio.sleep(10)
                registry.passivate_idle()
            elif way == "stopped":
                ref.stop_nowait()
            elif way == "given up":
                await ref.tell(ValueError("no"))
        await wait_all_tasks_blocked()
        assert ended == ["ann"]
        await registry.get("ann")
        assert ended == ["ann"]


async def test_an_idle_actor_is_put_away_at_once_when_asked_for_one() -> None:
    house = House()
    async with guests(house) as registry:
        house.is_idle = False
        # More than it looks at in one go.
        for number in range(EXAMINED_FOR_ONE + 10):
            await registry.get(str(number))
        assert not registry.passivate_one()
        house.is_idle = True
        assert registry.passivate_one()
        assert len([key for key in registry if key not in registry]) == 1, "it is on its way out"
        await wait_all_tasks_blocked()
        assert len(registry) == EXAMINED_FOR_ONE + 9
        assert registry.statistics().passivated == 1


async def test_one_idle_actor_among_many_busy_ones_is_found_in_the_end(autojump_clock: object) -> None:
    house = House(turn_seconds=1000)
    async with guests(house) as registry:
        for number in range(5 * EXAMINED_FOR_ONE):
            await registry.tell(str(number), "work")
        await registry.get("idle")
        await wait_all_tasks_blocked()
        assert [registry.passivate_one() for _ in range(6)] == [False] * 5 + [True]
        assert "idle" not in registry
