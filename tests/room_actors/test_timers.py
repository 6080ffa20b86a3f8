"""Timers of rooms with code: stored with the state, fired once, also after the server was away."""

from collections.abc import Sequence

import msgspec
import pytest
import trio
from trio.testing import MockClock

from actors import Reply
from broker.config.settings import RoomSettings, Settings
from broker.engine.age_clock import EngineClock
from broker.engine.base import Retention
from broker.engine.memory import MemoryEngine
from broker.engine.memory_room_store import MemoryRoomStore
from broker.engine.room_store import DueTimer, StoredTurn
from broker.log import stdlib_log
from broker.room_actors import Member, RoomActor, Timer, call
from broker.room_actors.timers import READ_AT_ONCE, RoomTimers
from broker.rooms.messages import RoomMessage, TimerDue
from broker.testing import World, open_test_broker


class Fired(msgspec.Struct):
    timers: list[tuple[str, float]] = []
    failures_left: int = 0
    again_left: int = 0
    opened: int = 0
    closed: int = 0


class Alarm(RoomActor[Fired], pattern="alarm.*"):
    async def on_open(self) -> None:
        self.state.opened += 1

    async def on_close(self) -> None:
        self.state.closed += 1

    @call
    async def set(self, sender: Member | None, timer: tuple[str, float]) -> None:
        name, seconds = timer
        self.set_timer(name, seconds)

    @call
    async def cancel(self, sender: Member | None, name: str) -> None:
        self.cancel_timer(name)

    @call
    async def left(self, sender: Member | None) -> dict[str, float]:
        return dict(self.timers)

    @call
    async def every(self, sender: Member | None, seconds: float) -> None:
        self.set_timer(f"every {seconds:g}", seconds)

    @call
    async def again(self, sender: Member | None, times: int) -> None:
        self.state.again_left = times
        self.set_timer("again", 0)

    @call
    async def fail(self, sender: Member | None, times: int) -> None:
        self.state.failures_left = times

    async def on_timer(self, timer: Timer) -> None:
        self.state.timers.append((timer.name, round(timer.late_seconds, 1)))
        if timer.name == "failing":
            attempts.append(self.name)
            if len(attempts) <= 3:
                raise RuntimeError("a fault in the application")
        if timer.name.startswith("every"):
            self.set_timer(timer.name, float(timer.name.split()[1]))
        if timer.name == "again" and self.state.again_left > 1:
            self.state.again_left -= 1
            self.set_timer("again", 0)
        self.say({"type": "fired", "name": timer.name})


attempts: list[str] = []
"""Outside the state, as the state forgets failed turns."""


async def fired(world: World, room: str = "alarm.1") -> list[list[object]]:
    state = await world.state(room)
    return [] if state is None else state["timers"]


async def test_timers_fire_in_their_order_once(autojump_clock: MockClock) -> None:
    async with open_test_broker([Alarm]) as world:
        ann = await world.join("alarm.1", user="ann")
        await ann.call("set", ("late", 20))
        await ann.call("set", ("soon", 10))
        await ann.call("set", ("now", 0))
        await world.pass_time(5)
        assert await ann.call("left") == {
            "soon": pytest.approx(5, abs=0.1),
            "late": pytest.approx(15, abs=0.1),
        }
        await world.pass_time(30)
        assert await fired(world) == [["now", 0], ["soon", 0], ["late", 0]]
        assert [each["name"] for each in ann.of_type("fired")] == ["now", "soon", "late"]
        assert await ann.call("left") == {}


async def test_a_timer_is_moved_and_cancelled(autojump_clock: MockClock) -> None:
    async with open_test_broker([Alarm]) as world:
        ann = await world.join("alarm.1", user="ann")
        await ann.call("set", ("moved", 10))
        await ann.call("set", ("cancelled", 10))
        await world.pass_time(9)
        await ann.call("set", ("moved", 10))
        await ann.call("cancel", "cancelled")
        await ann.call("cancel", "unknown")
        await world.pass_time(5)
        assert await fired(world) == []
        await world.pass_time(6)
        assert await fired(world) == [["moved", 0]]


async def test_a_timer_that_sets_itself_again_goes_on(autojump_clock: MockClock) -> None:
    async with open_test_broker([Alarm]) as world:
        await world.call("alarm.1", "every", 10)
        await world.pass_time(35)
        assert await fired(world) == [["every 10", 0]] * 3


async def test_a_timer_that_sets_itself_for_the_same_moment_goes_on(autojump_clock: MockClock) -> None:
    async with open_test_broker([Alarm]) as world:
        await world.call("alarm.1", "again", 200)
        await world.pass_time(10)
        assert await fired(world) == [["again", 0]] * 200


async def test_a_room_sleeps_until_its_timer_is_due(autojump_clock: MockClock) -> None:
    settings = Settings(room=RoomSettings(idle_seconds=30))
    async with open_test_broker([Alarm], settings=settings) as world:
        await world.call("alarm.1", "set", ("far", 600))
        await world.pass_time(200)
        assert world.rooms_in_memory() == []
        state = await world.state("alarm.1")
        assert (state["opened"], state["closed"]) == (1, 1)
        await world.pass_time(401)
        assert await fired(world) == [["far", 0]]


class SharedStore(MemoryRoomStore):
    """A store to which other nodes may write, so that timers come up of which this node is told nothing."""

    @property
    def is_shared(self) -> bool:
        return True


async def test_timers_of_a_shared_store_are_found_without_a_note(autojump_clock: MockClock) -> None:
    engine = MemoryEngine(wall_clock=trio.current_time, idempotency_seconds=300.0)
    clock = EngineClock(trio.current_time, stdlib_log())
    store = SharedStore(engine.append, clock, idempotency_seconds=300.0)
    fired_at: list[tuple[str, float]] = []

    async def ask(room: str, message: RoomMessage, reply: Reply[None]) -> None:
        assert isinstance(message, TimerDue)
        fired_at.append((message.name, trio.current_time()))
        await save({message.name: None})

    async def save(timers: dict[str, int | None]) -> None:
        await store.store(
            "den", [StoredTurn(timers=timers)], None, Retention(9, 9, 9.0), is_state_changed=False
        )

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(RoomTimers(store, lambda _room: True).run, ask)
        for name, due_seconds in (("past", -5.0), ("soon", 2.5), ("far", 60.0)):
            await trio.sleep(0.25)
            await save({name: int((began + due_seconds) * 1000)})
        await trio.sleep(70)
        nursery.cancel_scope.cancel()
    assert [name for name, _ in fired_at] == ["past", "soon", "far"]
    assert [seconds - began for _, seconds in fired_at] == pytest.approx([1, 2.5, 60], abs=0.1)


async def test_timers_of_rooms_whose_class_is_gone_hold_up_no_other(autojump_clock: MockClock) -> None:
    engine = MemoryEngine(wall_clock=trio.current_time, idempotency_seconds=300.0)
    clock = EngineClock(trio.current_time, stdlib_log())
    reads = 0
    fired_in: list[str] = []

    class CountingStore(SharedStore):
        async def earliest_timers(self, limit: int) -> Sequence[DueTimer]:
            nonlocal reads
            reads += 1
            return await super().earliest_timers(limit)

    store = CountingStore(engine.append, clock, idempotency_seconds=300.0)

    async def ask(room: str, message: RoomMessage, reply: Reply[None]) -> None:
        assert isinstance(message, TimerDue)
        fired_in.append(room)
        await save(room, None)

    async def save(room: str, due_ms: int | None) -> None:
        turns = [StoredTurn(timers={"a": due_ms})]
        await store.store(room, turns, None, Retention(9, 9, 9.0), is_state_changed=False)

    for number in range(3 * READ_AT_ONCE):
        await save(f"gone.{number}", 1)
    timers = RoomTimers(store, lambda room: not room.startswith("gone"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run, ask)
        for room in ("here.1", "here.2"):
            await trio.sleep(3)
            await save(room, int(trio.current_time() * 1000))
        await trio.sleep(3)
        nursery.cancel_scope.cancel()
    assert fired_in == ["here.1", "here.2"]
    assert reads < 20


async def test_a_timer_outlives_the_server_and_is_told_how_late_it_is(autojump_clock: MockClock) -> None:
    async with open_test_broker([Alarm]) as world:
        await world.call("alarm.1", "set", ("during", 10))
        await world.call("alarm.2", "set", ("after", 100))
        await world.kill()
        await world.pass_time(60)
        await world.start()
        await world.pass_time(1)
        assert await fired(world) == [["during", 50.0]]
        await world.pass_time(100)
        assert await fired(world, "alarm.2") == [["after", 0]]


async def test_a_timer_whose_turn_fails_is_tried_again(autojump_clock: MockClock) -> None:
    attempts.clear()
    async with open_test_broker([Alarm]) as world:
        await world.call("alarm.1", "set", ("failing", 10))
        await world.pass_time(10.5)
        assert await fired(world) == []
        await world.pass_time(20)
        assert len(attempts) == 4
        [[name, late_seconds]] = await fired(world)
        assert name == "failing"
        assert late_seconds == pytest.approx(7, abs=1)


async def test_a_timer_waits_for_the_engine(autojump_clock: MockClock) -> None:
    async with open_test_broker([Alarm]) as world:
        await world.call("alarm.1", "set", ("waiting", 10))
        with world.engine_unavailable():
            await world.pass_time(30)
        assert await fired(world) == []
        await world.pass_time(60)
        assert [name for name, _ in await fired(world)] == ["waiting"]


async def test_many_rooms_have_their_timers_at_the_same_moment(autojump_clock: MockClock) -> None:
    async with open_test_broker([Alarm]) as world:
        for number in range(150):
            await world.call(f"alarm.{number}", "set", ("all", 60))
        await world.pass_time(70)
        for number in range(150):
            assert [name for name, _ in await fired(world, f"alarm.{number}")] == ["all"]
