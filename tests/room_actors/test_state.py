"""The state of rooms with code over versions of their classes."""

from typing import Any

import attrs
import msgspec
import pytest
from trio.testing import MockClock

from broker.errors import Refused
from broker.room_actors import Member, RoomActor, call
from broker.testing import RefusedError, World, open_test_broker


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

    @classmethod
    def migrate(cls, state: Any, version: int) -> Any:
        raise LookupError(f"no migration from version {version}")


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


class Tally(msgspec.Struct):
    total: int = 0
    share: float = 0.0


class Careless(RoomActor[Tally], pattern="room"):
    """Sets its state to what it must not be."""

    @call
    async def total(self, sender: Member | None) -> int:
        return self.state.total

    @call
    async def add(self, sender: Member | None) -> None:
        self.state.total += 1

    @call
    async def put_text(self, sender: Member | None) -> None:
        self.state.total = "one"  # type: ignore[assignment]

    @call
    async def put_no_number(self, sender: Member | None) -> None:
        self.state.share = float("nan")

    @call
    async def put_dict(self, sender: Member | None) -> None:
        self.state = {"total": 5}  # type: ignore[assignment]

    @call
    async def put_other_class(self, sender: Member | None) -> None:
        self.state = OldState("ann")  # type: ignore[assignment]


@pytest.mark.parametrize("method", ["put_text", "put_no_number", "put_dict", "put_other_class"])
async def test_a_turn_that_leaves_a_state_of_another_type_fails_and_the_room_goes_on(
    autojump_clock: MockClock, method: str
) -> None:
    async with open_test_broker([Careless]) as world:
        ann = await world.join("room", user="ann")
        await ann.call("add")
        with pytest.raises(RefusedError, match="failed"):
            await ann.call(method)
        assert await ann.call("total") == 1
        assert await world.state("room") == {"total": 1, "share": 0.0}
        await world.kill()
        await world.start()
        await world.join("room", user="ben")
        await world.call("room", "add")
        assert await world.call("room", "total") == 2


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("put_text", "Expected `int`, got `str` - at `$.total`"),
        ("put_dict", "is no Tally but a dict"),
    ],
)
async def test_the_log_names_what_is_wrong_with_a_state(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, method: str, reason: str
) -> None:
    async with open_test_broker([Careless]) as world:
        with pytest.raises(Refused):
            await world.call("room", method)
        await world.pass_time(0)
        assert reason in caplog.text


class Stateless(RoomActor[None], pattern="room"):
    @call
    async def note(self, sender: Member | None) -> None:
        self.state = OldState("ann")  # type: ignore[assignment]


async def test_a_room_without_a_type_of_state_does_not_lose_one_unnoticed(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_test_broker([Stateless]) as world:
        with pytest.raises(Refused):
            await world.call("room", "note")
        await world.pass_time(0)
        assert "has no state" in caplog.text
