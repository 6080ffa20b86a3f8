"""The look at a room with code from outside: its stored state, timers, turns and last failure, without a turn."""

import json
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from broker.config.settings import RoomSettings, Settings
from broker.errors import EngineUnavailableError
from broker.room_actors import Member, Refusal, RoomActor, Timer, call
from broker.room_actors.classes import read_class
from broker.room_actors.records import MOST_FAILURES, MOST_TEXT_CHARACTERS, LastFailures, RoomRecord
from broker.rooms.code_inspection import CodeFailure
from broker.rooms.turn_tally import TurnKind, TurnTally
from broker.testing import RefusedError, World, open_test_broker
from broker.testing.world import BEGIN

IDLE_SECONDS = 30.0
SETTINGS = Settings(room=RoomSettings(idle_seconds=IDLE_SECONDS))


class Tray(msgspec.Struct):
    cards: list[str] = []


class Table(RoomActor[Tray], pattern="table.*"):
    opened = 0

    async def on_open(self) -> None:
        type(self).opened += 1

    @call
    async def put(self, sender: Member | None, card: str) -> None:
        self.state.cards.append(card)

    @call
    async def clear(self, sender: Member | None) -> None:
        self.state.cards.clear()

    @call
    async def ring(self, sender: Member | None, timer: tuple[str, float]) -> None:
        self.set_timer(*timer)

    @call
    async def wait(self, sender: Member | None, seconds: float) -> None:
        self.state.cards.append("never seen")
        await trio.sleep(seconds)
        raise Refusal("waited in vain")

    @call
    async def fail(self, sender: Member | None, text: str) -> None:
        raise LookupError(text)

    async def on_timer(self, timer: Timer) -> None:
        self.state.cards.append(timer.name)


class Untold:
    def __str__(self) -> str:
        raise ValueError("has no text")


class Other(RoomActor[Tray], pattern="table.*"):
    pass


async def inspect(world: World, room: str = "table.1") -> dict[str, Any]:
    inspection = await world._assembly.http.rooms.inspect_code(room)
    assert inspection is not None
    found: dict[str, Any] = json.loads(msgspec.json.encode(inspection))
    return found


async def test_a_room_that_never_was_shows_its_initial_state_and_is_not_started(
    autojump_clock: MockClock,
) -> None:
    async with open_test_broker([Table]) as world:
        assert await inspect(world) == {
            "room": "table.1",
            "class_name": f"{__name__}.Table",
            "state_version": 1,
            "is_running": False,
            "node": None,
            "owner": None,
            "state": {"value": {"cards": []}, "bytes": 12, "version": 1, "stored_by": None},
            "timers": [],
            "turns": [],
            "last_failure": None,
        }
        assert world.rooms_in_memory() == []
        assert await world._assembly.http.rooms.inspect_code("lobby") is None


async def test_state_timers_and_turns_are_those_of_the_room(autojump_clock: MockClock) -> None:
    async with open_test_broker([Table]) as world:
        ann = await world.join("table.1", user="ann")
        await world.join("table.2", user="ben")
        await ann.call("put", "ace")
        await ann.call("ring", ["late", 20])
        await ann.call("ring", ["soon", 2.5])
        for seconds in (1, 2):
            with pytest.raises(RefusedError):
                await ann.call("wait", seconds)
        found = await inspect(world)
        assert found["is_running"]
        assert found["state"] == {
            "value": {"cards": ["ace", "soon"]},
            "bytes": 24,
            "version": 1,
            "stored_by": "Table",
        }
        assert found["timers"] == [{"name": "late", "due_time": int(BEGIN + 20) * 1000, "due_in_ms": 17_000}]
        turns = {each.pop("kind"): each for each in found["turns"]}
        assert turns["join"] == {
            "done": 1,
            "refused": 0,
            "failed": 0,
            "unavailable": 0,
            "total_ms": 0,
            "longest_ms": 0,
        }
        assert (turns["call"]["done"], turns["call"]["refused"]) == (3, 2)
        assert (turns["call"]["total_ms"], turns["call"]["longest_ms"]) == pytest.approx((3000, 2000))
        assert turns["timer"]["done"] == 1
        assert set(turns) == {"join", "call", "timer"}
        assert [each["kind"] for each in (await inspect(world, "table.2"))["turns"]] == ["join"]


async def test_an_inspection_waits_for_no_turn_and_shows_nothing_that_is_not_stored(
    autojump_clock: MockClock,
) -> None:
    async with open_test_broker([Table]) as world:
        ann = await world.join("table.1", user="ann")
        await ann.call("put", "ace")
        world._nursery.start_soon(_ignore_refusal, ann.call, "wait", 3)
        await world.pass_time(1)
        assert (await inspect(world))["state"]["value"] == {"cards": ["ace"]}
        with world.engine_unavailable(), pytest.raises(EngineUnavailableError):
            await inspect(world)


async def _ignore_refusal(call: Any, *arguments: Any) -> None:
    with pytest.raises(RefusedError):
        await call(*arguments)


async def test_a_room_that_was_put_away_shows_what_is_stored_and_stays_away(
    autojump_clock: MockClock,
) -> None:
    async with open_test_broker([Table], settings=SETTINGS) as world:
        await world.call("table.1", "put", "ace")
        await world.call("table.1", "ring", ["soon", 3 * IDLE_SECONDS])
        await world.pass_time(2 * IDLE_SECONDS)
        assert world.rooms_in_memory() == []
        opened = Table.opened
        found = await inspect(world)
        assert (found["is_running"], found["turns"]) == (False, [])
        assert found["state"]["value"] == {"cards": ["ace"]}
        assert found["timers"][0]["due_in_ms"] == IDLE_SECONDS * 1000
        # Late, as no server runs meanwhile.
        await world.kill()
        await world.pass_time(2 * IDLE_SECONDS)
        await world.start([Other])
        found = await inspect(world)
        assert (found["class_name"], found["state"]["stored_by"]) == (f"{__name__}.Other", "Table")
        assert found["timers"][0]["due_in_ms"] <= -IDLE_SECONDS * 1000
        assert Table.opened == opened


async def test_a_state_that_is_the_initial_one_again_is_shown(autojump_clock: MockClock) -> None:
    async with open_test_broker([Table]) as world:
        await world.call("table.1", "put", "ace")
        await world.call("table.1", "clear")
        found = await inspect(world)
        assert found["is_running"]
        assert found["state"] == {"value": {"cards": []}, "bytes": 12, "version": 1, "stored_by": None}


async def test_the_last_failure_is_shown_also_when_the_room_was_given_up(autojump_clock: MockClock) -> None:
    async with open_test_broker([Table]) as world:
        ann = await world.join("table.1", user="ann")
        with pytest.raises(RefusedError):
            await ann.call("fail", "first")
        await world.pass_time(0.5)
        for _ in range(5):
            with pytest.raises((RefusedError, ConnectionError)):
                await ann.call("fail", "<b>\n")
        await world.pass_time(1)
        assert ann.closed_with == 1011
        failure = (await inspect(world))["last_failure"]
        assert (failure["kind"], failure["error"]) == ("call", "LookupError")
        assert failure["text"] == "<b>\n"
        assert BEGIN * 1000 < failure["time"] <= world.now() * 1000
        assert (await inspect(world, "table.2"))["last_failure"] is None


def test_the_failures_of_the_rooms_that_failed_last_are_kept() -> None:
    failures = LastFailures()
    for number in range(MOST_FAILURES + 2):
        failures.note(f"room {number}", CodeFailure(number, TurnKind.CALL, "E", ""))
        failures.note("room 1", CodeFailure(number, TurnKind.CALL, "E", ""))
    kept = [number for number in range(MOST_FAILURES + 2) if failures.of(f"room {number}") is not None]
    assert kept == [1, *range(3, MOST_FAILURES + 2)]


@pytest.mark.parametrize(
    ("raised", "text"),
    [
        (LookupError("\ud83d <b>\x1b[31m"), "? <b>\x1b[31m"),
        (LookupError("x" * 2 * MOST_TEXT_CHARACTERS), "x" * MOST_TEXT_CHARACTERS),
        (LookupError(Untold()), ""),
    ],
)
def test_any_exception_has_a_text_in_json(raised: Exception, text: str) -> None:
    failures = LastFailures()
    spec = read_class(Table, most_state_bytes=1000)
    RoomRecord("table.1", spec, TurnTally(), failures, lambda: BEGIN).note_failure(TurnKind.CALL, raised)
    failure = failures.of("table.1")
    assert json.loads(msgspec.json.encode(failure)) == {
        "time": BEGIN * 1000,
        "kind": "call",
        "error": "LookupError",
        "text": text,
    }
