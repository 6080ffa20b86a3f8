"""The state of rooms with code over versions of their classes."""

from typing import Any

import attrs
import msgspec
import pytest
from trio.testing import MockClock

from broker.errors import ConfigurationError
from broker.room_actors import Member, RoomActor, call
from broker.room_actors.classes import read_class
from broker.testing import World, open_test_broker


class OldState(msgspec.Struct):
    name: str = ""


@attrs.define
class NewState:
    names: list[str] = attrs.Factory(list)


class First(RoomActor[OldState], pattern="room"):
    state_name = "Names"

    @call
    async def note(self, sender: Member | None, name: str) -> None:
        self.state.name = name


class Second(RoomActor[NewState], pattern="room"):
    state_name = "Names"
    state_version = 2

    @classmethod
    def migrate(cls, state: Any, version: int) -> Any:
        assert version == 1
        return NewState([state["name"]])

    @call
    async def note(self, sender: Member | None, name: str) -> None:
        self.state.names.append(name)


class Unmigrated(RoomActor[NewState], pattern="room"):
    state_name = "Names"
    state_version = 2


class Stranger(RoomActor[OldState], pattern="room"):
    pass


async def serve_instead(world: World, cls: type[RoomActor[Any]]) -> None:
    await world.kill()
    await world.start([cls])


async def test_a_later_version_migrates_the_state(autojump_clock: MockClock) -> None:
    async with open_test_broker([First]) as world:
        await world.call("room", "note", "ann")
        await serve_instead(world, Second)
        await world.call("room", "note", "ben")
        assert await world.state("room") == {"names": ["ann", "ben"]}


async def test_a_room_that_only_reads_is_migrated_once(autojump_clock: MockClock) -> None:
    async with open_test_broker([First]) as world:
        await world.call("room", "note", "ann")
        await serve_instead(world, Second)
        await world.join("room", user="ann")
        assert await world.state("room") == {"names": ["ann"]}


@pytest.mark.parametrize(
    ("cls", "reason"),
    [
        (Unmigrated, "no migration from version 1"),
        (Stranger, "was stored by Names, not by Stranger"),
    ],
)
async def test_a_state_that_cannot_be_read_is_an_error_and_stays(
    autojump_clock: MockClock, cls: type[RoomActor[Any]], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_test_broker([First]) as world:
        await world.call("room", "note", "ann")
        await serve_instead(world, cls)
        with pytest.raises(ConnectionError, match="1011"):
            await world.join("room", user="ann")
        assert await world.state("room") == {"name": "ann"}
        assert reason in caplog.text
        assert "'room'" in caplog.text


async def test_a_state_of_a_later_version_is_an_error(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_test_broker([Second]) as world:
        await world.call("room", "note", "ann")
        await serve_instead(world, First)
        with pytest.raises(ConnectionError, match="1011"):
            await world.join("room", user="ann")
        assert "version 2, which is later than 1" in caplog.text


async def test_a_room_as_it_began_stores_nothing(autojump_clock: MockClock) -> None:
    async with open_test_broker([First]) as world:
        await world.call("room", "note", "ann")
        await world.call("room", "note", "")
        assert await world.state("room") is None


class Needs(msgspec.Struct):
    name: str


def test_classes_that_cannot_be_served_are_refused() -> None:
    class NoPattern(RoomActor[OldState]):
        pass

    class NoDefaults(RoomActor[Needs], pattern="x"):
        pass

    class NotAsync(RoomActor[OldState], pattern="x"):
        @call  # type: ignore[type-var]
        def sync(self, sender: Member | None) -> None:
            pass

    class TooMany(RoomActor[OldState], pattern="x"):
        @call
        async def many(self, sender: Member | None, a: int, b: int) -> None:
            pass

    class Twice(RoomActor[OldState], pattern="x"):
        @call(name="one")
        async def first(self, sender: Member | None) -> None:
            pass

        @call(name="one")
        async def second(self, sender: Member | None) -> None:
            pass

    class NoType(RoomActor[OldState], pattern="x"):
        @call
        async def typed(self, sender: Member | None, a: "Unknown") -> None:  # type: ignore[name-defined]  # noqa: F821
            pass

    for cls, reason in (
        (NoPattern, "no rooms"),
        (NoDefaults, "without arguments"),
        (NotAsync, "async"),
        (TooMany, "one argument at most"),
        (Twice, "already"),
        (NoType, "'a' cannot be used"),
    ):
        with pytest.raises(ConfigurationError, match=reason):
            read_class(cls, most_state_bytes=1000)
