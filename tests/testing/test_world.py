"""The broker in memory: the same in the loop of the test and under asyncio."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import msgspec
import pytest
import trio
from trio.testing import MockClock

from broker.config.settings import RoomSettings, Settings, WebSocketSettings
from broker.errors import CloseCode, ConfigurationError, EngineUnavailableError, Refused
from broker.hooks import Hook
from broker.room_actors import Member, RoomActor, Timer, call
from broker.testing import RefusedError, Visitor, World, open_test_broker, open_test_broker_in_thread

Scenario: TypeAlias = Callable[[World], Awaitable[None]]
Play: TypeAlias = Callable[..., None]
SAFETY_SECONDS = 120


class Score(msgspec.Struct):
    points: int = 0
    fired: list[str] = []


class Board(RoomActor[Score], pattern="board.*"):
    async def on_open(self) -> None:
        self.calls = 0

    async def on_close(self) -> None:
        self.state.points = -1

    @call
    async def add(self, sender: Member | None, points: int) -> tuple[int, int]:
        self.calls += 1
        self.state.points += points
        self.say({"type": "points", "points": self.state.points})
        return self.state.points, self.calls

    @call
    async def remind(self, sender: Member | None, reminders: dict[str, float]) -> None:
        for name, seconds in reminders.items():
            self.set_timer(name, seconds)

    async def on_timer(self, timer: Timer) -> None:
        self.state.fired.append(f"{timer.name} {self.now - 1_800_000_000:g}")


ROOMS = (Board,)


def play_in_loop(scenario: Scenario, rooms: Sequence[Any] = ROOMS, **options: Any) -> None:
    async def main() -> None:
        async with open_test_broker(rooms, **options) as world:
            await scenario(world)

    trio.run(main, clock=MockClock(autojump_threshold=0))


def play_under_asyncio(scenario: Scenario, rooms: Sequence[Any] = ROOMS, **options: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(SAFETY_SECONDS), open_test_broker(rooms, **options) as world:
            await scenario(world)

    asyncio.run(main())


@pytest.fixture(params=[play_in_loop, play_under_asyncio])
def play(request: pytest.FixtureRequest) -> Play:
    played: Play = request.param
    return played


def points(visitor: Visitor) -> list[int]:
    return [message["points"] for message in visitor.of_type("points")]


def test_time_passes_only_when_it_is_let_and_timers_fire_in_their_order(play: Play) -> None:
    async def scenario(world: World) -> None:
        began = world.now()
        ann = await world.join("board.1", user="ann")
        await ann.call("remind", {"late": 90, "soon": 5, "sooner": 4.5})
        assert world.now() == began
        await world.pass_time(4.75)
        assert (await world.state("board.1"))["fired"] == ["sooner 4.5"]
        await world.pass_time(100)
        assert (await world.state("board.1"))["fired"] == ["sooner 4.5", "soon 5", "late 90"]
        assert world.now() == began + 104.75

    play(scenario)


def test_who_lost_the_connection_recovers_what_was_missed(play: Play) -> None:
    async def scenario(world: World) -> None:
        for room in ("board.1", "lobby"):
            ann, ben = await world.join(room, user="ann"), await world.join(room, user="ben")
            await ann.publish("first", 1)
            await ben.drop()
            assert (ben.closed_with, ann.heard[-1]["type"]) == (1006, "user_left")
            with pytest.raises(ConnectionError):
                await ben.chat("to nobody")
            await ann.publish("second", 2)
            await ann.publish("third", 3)
            await ben.reconnect()
            assert ben.closed_with is None
            assert [joined["recovered"] for joined in ben.of_type("joined")] == [False, True]
            assert [message["data"] for message in ben.of_type("event")] == [1, 2, 3]
            await ben.chat("back")
            assert [message["text"] for message in ann.of_type("chat")] == ["back"]
            # Also one that the server takes for connected still.
            await ben.reconnect()
            assert [message["data"] for message in ben.of_type("event")] == [1, 2, 3]

    play(scenario)


def test_a_slow_reader_is_closed_and_nobody_waits_for_it(play: Play) -> None:
    async def scenario(world: World) -> None:
        ann, ben = await world.join("lobby", user="ann"), await world.join("lobby", user="ben")
        await ben.stop_reading()
        for number in range(20):
            await ann.publish("large", "x" * 1000 + str(number))
        assert len(ann.of_type("event")) == 20
        assert (ben.of_type("event"), ben.closed_with) == ([], None)
        await ben.read_again()
        assert ben.closed_with == CloseCode.TOO_SLOW
        assert len(ben.of_type("event")) < 20

    play(
        scenario, settings=Settings(websocket=WebSocketSettings(outbox_bytes=4096, slow_reader="disconnect"))
    )


def test_who_stops_to_read_for_a_moment_misses_nothing(play: Play) -> None:
    async def scenario(world: World) -> None:
        ann, ben = await world.join("lobby", user="ann"), await world.join("lobby", user="ben")
        await ben.stop_reading()
        await ann.chat("1")
        await ann.chat("2")
        assert ben.of_type("chat") == []
        await ben.read_again()
        await ann.chat("3")
        assert [message["text"] for message in ben.of_type("chat")] == ["1", "2", "3"]

    play(scenario)


def test_while_the_engine_is_unavailable_nothing_is_done(play: Play) -> None:
    async def scenario(world: World) -> None:
        ann = await world.join("board.1", user="ann")
        plain = await world.join("lobby", user="ann")
        await ann.call("add", 1)
        with world.engine_unavailable():
            with pytest.raises(RefusedError, match="unavailable") as refused:
                await ann.call("add", 10)
            assert refused.value.retry_after_ms
            with pytest.raises(RefusedError, match="unavailable"):
                await plain.chat("nothing")
            with pytest.raises(EngineUnavailableError):
                await world.call("board.1", "add", 10)
        assert (await ann.call("add", 1))[0] == 2
        await plain.chat("something")
        assert (points(ann), len(plain.of_type("chat"))) == ([1, 2], 1)

    play(scenario)


def test_a_room_that_crashes_keeps_its_members_and_what_was_stored(play: Play) -> None:
    async def scenario(world: World) -> None:
        ann = await world.join("board.1", user="ann")
        assert await ann.call("add", 1) == [1, 1]
        assert await ann.call("add", 1) == [2, 2]
        await world.crash("board.1")
        # Neither is the cache of the instance there, nor has `on_close` run.
        assert await ann.call("add", 1) == [3, 1]
        assert points(ann) == [1, 2, 3]
        plain = await world.join("lobby", user="ann")
        await plain.chat("before")
        await world.crash("lobby")
        await plain.chat("after")
        assert [message["text"] for message in plain.of_type("chat")] == ["before", "after"]
        assert ann.closed_with is plain.closed_with is None

    play(scenario)


@pytest.mark.parametrize("room", ["board.1", "lobby"])
def test_a_room_that_crashes_too_often_is_given_up(play: Play, room: str) -> None:
    async def scenario(world: World) -> None:
        ann = await world.join(room, user="ann")
        await ann.publish("kept", 1)
        for _ in range(6):
            assert ann.closed_with is None
            await world.crash(room)
        await world.pass_time(10)
        assert ann.closed_with == CloseCode.INTERNAL_ERROR
        await ann.reconnect()
        assert ann.of_type("joined")[-1]["recovered"] is True

    play(scenario)


def test_state_history_and_timers_outlive_a_killed_server(play: Play) -> None:
    async def scenario(world: World) -> None:
        ann = await world.join("board.1", user="ann")
        await ann.call("add", 1)
        await ann.call("remind", {"soon": 5, "late": 60})
        await world.kill()
        assert ann.closed_with == 1006
        await world.pass_time(30)
        await world.start()
        await ann.reconnect()
        await world.pass_time(1)
        assert await world.state("board.1") == {"points": 1, "fired": ["soon 30"]}
        assert await ann.call("add", 1) == [2, 1]
        await world.pass_time(30)
        assert (await world.state("board.1"))["fired"] == ["soon 30", "late 60"]
        assert (points(ann), len(ann.of_type("joined"))) == ([1, 2], 2)

    play(scenario)


def test_an_empty_room_passivates(play: Play) -> None:
    async def scenario(world: World) -> None:
        ann = await world.join("board.1", user="ann")
        await ann.leave()
        assert world.rooms_in_memory() == ["board.1"]
        await world.pass_time(31)
        assert world.rooms_in_memory() == []
        assert (await world.state("board.1"))["points"] == -1

    play(scenario, settings=Settings(room=RoomSettings(idle_seconds=30)))


def test_refusals_and_failures_reach_the_test_as_they_are(play: Play) -> None:
    async def scenario(world: World) -> None:
        ann = await world.join("board.1", user="ann")
        with pytest.raises(RefusedError, match="invalid_message"):
            await ann.call("add", "three")
        with pytest.raises(Refused, match="this room has no"):
            await world.call("board.1", "nothing")
        with pytest.raises(ConnectionError, match="4003"):
            await world.join("board.1", user="ben", rooms=["lobby"])
        with pytest.raises(ConnectionError, match="4001"):
            await world.join("board.1", user="ben", exp=1)
        await world.publish("lobby", {"type": "news"})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        play(scenario)


def test_a_class_that_cannot_be_used_is_refused_as_the_broker_is_opened(play: Play) -> None:
    class NoPattern(RoomActor[Score]):
        pass

    async def scenario(world: World) -> None:
        pytest.fail("it was opened")

    with pytest.raises(ConfigurationError, match="NoPattern"):
        play(scenario, [NoPattern])


def test_hooks_of_the_program_are_asked(play: Play) -> None:
    async def decide(ask: Any) -> dict[str, Any]:
        return {"allow": ask["room"] != "cellar"}

    async def scenario(world: World) -> None:
        await world.join("lobby", user="ann")
        with pytest.raises(ConnectionError, match="4003"):
            await world.join("cellar", user="ann")

    play(scenario, hooks=[Hook(decide, ["join"])])


def test_many_may_ask_at_once_under_asyncio() -> None:
    async def scenario(world: World) -> None:
        everybody = await asyncio.gather(*[world.join("board.1", user=f"user {n}") for n in range(20)])
        await asyncio.gather(*[visitor.call("add", 1) for visitor in everybody])
        for visitor in everybody:
            assert points(visitor) == list(range(1, 21))

    play_under_asyncio(scenario)


def test_a_request_that_is_cancelled_under_asyncio_lets_the_clock_rest() -> None:
    async def scenario(world: World) -> None:
        waiting = asyncio.create_task(world.pass_time(float("inf")))
        await asyncio.sleep(0)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        ann = await world.join("board.1", user="ann")
        now = world.now()
        await ann.ask(type="ping")
        assert world.now() == now

    play_under_asyncio(scenario)


def test_under_trio_the_clock_of_the_test_must_be_virtual_or_the_broker_in_a_thread() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="autojump_clock"):
            async with open_test_broker():
                pytest.fail("it was opened")
        with trio.fail_after(SAFETY_SECONDS), open_test_broker_in_thread(ROOMS) as world:
            ann = await world.join("board.1", user="ann")
            await ann.call("remind", {"soon": 60})
            await world.pass_time(61)
            assert (await world.state("board.1"))["fired"] == ["soon 60"]

    trio.run(main)


async def test_a_room_that_cannot_crash_or_has_no_state_is_told_from_one_that_has(
    autojump_clock: MockClock,
) -> None:
    async with open_test_broker([Board]) as world:
        with pytest.raises(LookupError, match=r"room 'board\.1' is not in memory"):
            await world.crash("board.1")
        assert await world.state("board.1") is None
        with pytest.raises(LookupError, match=r"no class is for room 'bord\.1'"):
            await world.state("bord.1")


async def test_a_visitor_is_shown_by_its_user_and_room(autojump_clock: MockClock) -> None:
    async with open_test_broker([Board]) as world:
        ann = await world.join("board.1", user="ann")
        assert "user_id='ann', room='board.1'" in repr(ann)
        assert len(repr(ann)) < 300
