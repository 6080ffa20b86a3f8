"""Rooms that nobody is in: nothing of them stays in memory, and they come back with all that they held."""

import gc
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from broker.config.settings import RoomSettings, ServerSettings, Settings, SqliteSettings
from broker.rooms.directory import Rooms
from broker.rooms.room import Room
from broker.rooms.state import RoomState
from tests.durability.world import World, open_world

IDLE_SECONDS = 5.0
ROOMS = [f"idle {number}" for number in range(100)]


def in_memory(rooms: Rooms) -> int:
    """Count what there is of the rooms of this test."""
    gc.collect()
    states = [thing for thing in gc.get_objects() if isinstance(thing, RoomState) and thing.name in ROOMS]
    actors = [thing for thing in gc.get_objects() if isinstance(thing, Room) and thing._state.name in ROOMS]
    return len(states) + len(actors) + len(rooms.list_here(limit=1000)) + rooms.statistics().rooms


async def join_all(world: World) -> None:
    client = world.clients[0]
    for room in ROOMS:
        await world.tell(room, client.join(room, forgets=False))
    await world.engine.settle()
    client.take()


async def put_away(world: World, clock: MockClock) -> None:
    """Leave all rooms, and let time pass: once to find them idle, once to put them away."""
    await world.leave_all(world.clients[0])
    for _ in range(2):
        clock.jump(IDLE_SECONDS)
        await world.engine.settle()


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_idle_rooms_cost_nothing_and_come_back_with_all_they_held(engine: str, tmp_path: Path) -> None:
    url = "memory://" if engine == "memory" else f"sqlite:///{tmp_path / 'rooms.db'}"
    settings = Settings(
        server=ServerSettings(engine=url),
        sqlite=SqliteSettings(witness_directory=str(tmp_path)),
        room=RoomSettings(idle_seconds=IDLE_SECONDS),
    )
    clock = MockClock()

    async def main() -> None:
        async with open_world(settings, ["ann", "bob"], is_durable=engine == "sqlite") as world:
            ann, bob = world.clients
            await join_all(world)
            for room in ROOMS[:50]:
                await world.tell(room, ann.publish(room, 1))
            await world.engine.settle()
            ann.take()
            seen = dict(ann.seen)
            assert {position.offset for position in seen.values()} == {0, 1}
            assert in_memory(world.rooms) == 4 * len(ROOMS)

            await put_away(world, clock)
            assert in_memory(world.rooms) == 0

            # What is said while one is away brings the room up again, and it goes once more.
            for room in ROOMS[::2]:
                await world.tell(room, bob.publish(room, 2))
            await put_away(world, clock)
            assert in_memory(world.rooms) == 0

            await join_all(world)
            assert {room: position.epoch for room, position in ann.seen.items()} == {
                room: position.epoch for room, position in seen.items()
            }
            for number, room in enumerate(ROOMS):
                assert ann.seen[room].offset == seen[room].offset + (number % 2 == 0)
            assert world.record.not_recovered == []
            await world.check()

    trio.run(main, clock=clock)
