"""What was acknowledged has happened once, whatever fails in between."""

from contextlib import suppress
from typing import TypeAlias

import msgspec
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from broker.errors import GreenroomError
from broker.room_actors import Member, RoomActor, Timer, call
from broker.testing import World, open_test_broker


class Account(msgspec.Struct):
    total: int = 0
    fired: list[str] = []


class Bank(RoomActor[Account], pattern="bank"):
    @call
    async def add(self, sender: Member | None, points: int) -> int:
        self.state.total += points
        self.say({"type": "added", "points": points})
        return self.state.total

    @call
    async def remind(self, sender: Member | None, name: str) -> None:
        self.set_timer(name, 5)

    @call
    async def fail(self, sender: Member | None) -> None:
        self.state.total += 1000
        self.say({"type": "never"})
        raise RuntimeError("a fault in the application")

    async def on_timer(self, timer: Timer) -> None:
        self.state.fired.append(timer.name)


Step: TypeAlias = tuple[str, int]

steps = st.lists(
    st.tuples(st.sampled_from(["add", "again", "remind", "fail", "kill", "away", "wait"]), st.integers(1, 4)),
    max_size=12,
)


async def take(world: World, step: Step, number: int, done: dict[int, int], reminders: list[str]) -> None:
    match step:
        case "add", points:
            await world.call("bank", "add", points, request_id=str(number))
            done[number] = points
        case "again", _ if done:
            first = min(done)
            await world.call("bank", "add", done[first], request_id=str(first))
        case "remind", _:
            name = f"{number:02}"
            await world.call("bank", "remind", name)
            reminders.append(name)
        case "fail", _:
            await world.call("bank", "fail")
        case "kill", seconds:
            await world.kill()
            await world.pass_time(seconds)
            await world.start()
        case "away", points:
            with world.engine_unavailable():
                await world.pass_time(points)
                await world.call("bank", "add", points, request_id=f"away {number}")
        case _, seconds:
            await world.pass_time(seconds)


async def live_through(script: list[Step]) -> None:
    done: dict[int, int] = {}
    reminders: list[str] = []
    async with open_test_broker([Bank]) as world:
        for number, step in enumerate(script):
            with suppress(GreenroomError):
                await take(world, step, number, done, reminders)
        await world.pass_time(90)
        state = await world.state("bank") or {"total": 0, "fired": []}
        assert state["total"] == sum(done.values())
        assert state["fired"] == reminders
        ann = await world.join("bank", user="ann")
        history = await ann.ask(type="history")
        said = [each for each in history["messages"] if each["type"] != "joined"]
        assert [each["points"] for each in said] == list(done.values())


@settings(max_examples=25)
@given(steps)
def test_what_was_acknowledged_has_happened_once(script: list[Step]) -> None:
    trio.run(live_through, script, clock=MockClock(autojump_threshold=0))
