"""Anything may happen, in any order, through restarts: nothing acknowledged is lost, and nobody is misled."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from broker.config.settings import HistorySettings, RoomSettings, ServerSettings, Settings, SqliteSettings
from broker.errors import EngineUnavailableError
from broker.rooms.messages import Leave
from tests.durability.world import BrokenError, World, open_world
from tests.support.members import RefusedFrame

USERS = ("ann", "bob", "cyd")
ROOMS = ("den", "loft")
IDLE_SECONDS = 5.0
FAULTS = {"raise": BrokenError, "refuse": RefusedFrame}


@attrs.frozen
class Come:
    """A user joins a room, with what it has seen there, or as if it had seen nothing."""

    user: int
    room: str
    forgets: bool


@attrs.frozen
class Go:
    """A user leaves a room."""

    user: int
    room: str


@attrs.frozen
class Say:
    """A user publishes; the same id again is a repetition."""

    user: int
    room: str
    request_id: int | None


@attrs.frozen
class Drop:
    """A user's connection ends; it comes back with what it has seen."""

    user: int


@attrs.frozen
class Break:
    """The next things for a user's connection break it, or find it too slow."""

    user: int
    fault: str


@attrs.frozen
class BreakEngine:
    """The next append fails, or crashes its room before or after it is stored."""

    how: str


@attrs.frozen
class Pass:
    """Time passes: rooms are put away, ids run out."""

    seconds: float


@attrs.frozen
class Restart:
    """The server stops and starts again, perhaps in the midst of something."""

    deeds: "tuple[Deed, ...]"
    suddenly: bool


Deed: TypeAlias = Come | Go | Say
users = st.integers(0, len(USERS) - 1)
rooms = st.sampled_from(["den", "den", "loft"])
says = st.builds(Say, users, rooms, st.sampled_from([None, 1, 2, 3]))
comes = st.builds(Come, users, rooms, st.sampled_from([False, False, False, True]))
deeds = says | says | comes | st.builds(Go, users, rooms)
bursts = st.lists(deeds, min_size=1, max_size=6)
events = (
    st.builds(Drop, users)
    | st.builds(Break, users, st.sampled_from(["raise", "refuse"]))
    | st.builds(BreakEngine, st.sampled_from(["unavailable", "before", "after"]))
    | st.builds(Pass, st.sampled_from([1.0, 2 * IDLE_SECONDS, 400.0]))
    | st.builds(Restart, st.lists(deeds, max_size=4).map(tuple), st.booleans())
)
everyone = [Come(user, "den", forgets=False) for user in range(len(USERS))]
# Whatever happens, something is said after it.
steps = st.lists(st.tuples(events, bursts), min_size=4, max_size=10).map(
    lambda pairs: [everyone, *[step for pair in pairs for step in pair]]
)


async def tell(world: World, deeds: "list[Deed] | tuple[Deed, ...]") -> None:
    """Send messages without waiting for what becomes of them."""
    for deed in deeds:
        client = world.clients[deed.user]
        match deed:
            case Come(_, room, forgets):
                if room not in client.present:
                    await world.tell(room, client.join(room, forgets=forgets))
            case Go(_, room):
                await world.tell(room, Leave(client.connection, is_answered=True))
                # It may come again only when it knows that it is out.
                await world.engine.settle()
                client.take()
            case Say(_, room, request_id):
                if room in client.present:
                    await world.tell(room, client.publish(room, request_id))


async def do(world: World, clock: MockClock, step: object) -> None:
    match step:
        case Drop(user):
            await world.leave_all(world.clients[user])
        case Break(user, fault):
            world.clients[user].connection.outbox.faults = [FAULTS[fault]()]
        case BreakEngine("after"):
            world.engine.after = [BrokenError()]
        case BreakEngine(how):
            world.engine.before = [BrokenError() if how == "before" else EngineUnavailableError("down")]
        case Pass(seconds):
            # Once to find rooms idle, once to put them away.
            for _ in range(2):
                clock.jump(seconds / 2)
                await world.engine.settle()
        case Restart(deeds, suddenly):
            await tell(world, deeds)
            await world.restart(suddenly=suddenly)
        case list():
            await tell(world, step)
    await world.check()


async def do_all(world: World, clock: MockClock, steps: list[object]) -> None:
    for step in steps:
        await do(world, clock, step)
    # At last all come back, with nothing in their way, and resend what they have no answer for.
    world.engine.before, world.engine.after = [], []
    for user, client in enumerate(world.clients):
        await do(world, clock, Drop(user))
        await do(world, clock, [Come(user, room, forgets=False) for room in ROOMS])
        await do(world, clock, [Say(user, *unanswered) for unanswered in client.unanswered])
        assert not client.unanswered, "a publish was never answered"


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
def test_nothing_acknowledged_is_lost_and_nobody_is_misled(engine: str) -> None:
    @settings(max_examples=100)
    @given(steps, st.sampled_from([1000, 1000, 3, 0]), st.sampled_from([1 << 20, 1 << 20, 60]))
    def holds(steps: list[object], messages: int, history_bytes: int) -> None:
        async def main() -> None:
            url = "memory://" if engine == "memory" else f"sqlite:///{Path(directory) / 'rooms.db'}"
            configured = Settings(
                server=ServerSettings(engine=url),
                history=HistorySettings(messages=messages, bytes=history_bytes),
                # What is tested here is no power loss.
                sqlite=SqliteSettings(synchronous="off", witness_directory=directory),
                room=RoomSettings(idle_seconds=IDLE_SECONDS),
            )
            async with open_world(configured, USERS, is_durable=engine == "sqlite") as world:
                await do_all(world, clock, steps)

        # Time stands still but for Pass: work in threads takes none.
        clock = MockClock()
        with TemporaryDirectory() as directory:
            trio.run(main, clock=clock)

    holds()
