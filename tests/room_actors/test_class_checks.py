"""A class that cannot work is refused at the start, by a text that names the class, the method and what is wrong."""

from typing import Any

import msgspec
import pytest

from broker.errors import ConfigurationError
from broker.room_actors import Member, RoomActor, Timer, call
from broker.room_actors.classes import read_class, read_classes


class State(msgspec.Struct):
    n: int = 0


def refusal(cls: type[RoomActor[Any]]) -> str:
    with pytest.raises(ConfigurationError) as refused:
        read_class(cls, most_state_bytes=1000)
    text = str(refused.value)
    assert text.startswith(cls.__qualname__)
    return text.removeprefix(cls.__qualname__)


def test_a_handler_that_is_not_async_is_refused() -> None:
    class Room(RoomActor[State], pattern="x"):
        def on_join(self, member: Member) -> None:  # type: ignore[override]
            pass

    assert refusal(Room) == ".on_join: is called as an async method: async def on_join(self, member)"


def test_a_handler_with_other_parameters_is_refused() -> None:
    class Room(RoomActor[State], pattern="x"):
        async def on_call(self, sender: Member | None, method: str) -> None:  # type: ignore[override]
            pass

    assert refusal(Room) == ".on_call: is called with (self, sender, method, data)"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("on_jion", "did you mean on_join?"),
        ("on_messages", "did you mean on_message?"),
        ("on_reticulated", "a room calls on_call, on_close, on_join"),
    ],
)
def test_a_handler_that_no_room_calls_is_refused_with_what_was_meant(name: str, hint: str) -> None:
    async def handler(self: Any, member: Member) -> None:
        pass

    class Base(RoomActor[State]):
        pass

    cls = type("Room", (Base,), {name: handler}, pattern="x")
    assert refusal(cls).startswith(f".{name}: is never called: {hint}")


def test_handlers_with_other_names_defaults_and_further_parameters_are_served() -> None:
    class Room(RoomActor[State], pattern="x"):
        async def on_join(self, who: Member, greet: bool = True) -> None:  # type: ignore[override]
            pass

        async def on_timer(self, *timers: Timer) -> None:  # type: ignore[override]
            pass

        @call
        async def hit(self, sender: Member | None) -> None:
            pass

    assert read_class(Room, most_state_bytes=1000).is_for("x")


def test_a_migration_that_could_not_be_called_is_refused() -> None:
    class Plain(RoomActor[State], pattern="x"):
        state_version = 2

        def migrate(self, state: Any, version: int) -> Any:  # type: ignore[override]
            return state

    class Waits(RoomActor[State], pattern="x"):
        @classmethod
        async def migrate(cls, state: Any, version: int) -> Any:
            return state

    class Missing(RoomActor[State], pattern="x"):
        state_version = 2

    class Static(RoomActor[State], pattern="x"):
        state_version = 2

        @staticmethod
        def migrate(state: Any, version: int) -> Any:  # type: ignore[override]
            return state

    assert "@classmethod def migrate(cls, state, version)" in refusal(Plain)
    assert refusal(Waits).startswith(".migrate")
    assert "is 2, but nothing reads earlier states" in refusal(Missing)
    read_class(Static, most_state_bytes=1000)


def test_calls_that_cannot_be_made_or_take_the_place_of_what_a_room_has_are_refused() -> None:
    class NotAsync(RoomActor[State], pattern="x"):
        @call  # type: ignore[type-var]
        def sync(self, sender: Member | None) -> None:
            pass

    class TooMany(RoomActor[State], pattern="x"):
        @call
        async def many(self, sender: Member | None, a: int, b: int) -> None:
            pass

    class Twice(RoomActor[State], pattern="x"):
        @call(name="one")
        async def first(self, sender: Member | None) -> None:
            pass

        @call(name="one")
        async def second(self, sender: Member | None) -> None:
            pass

    class NoType(RoomActor[State], pattern="x"):
        @call
        async def typed(self, sender: Member | None, a: "Unknown") -> None:  # type: ignore[name-defined]  # noqa: F821
            pass

    class Says(RoomActor[State], pattern="x"):
        @call
        async def say(self, sender: Member | None, text: str) -> None:  # type: ignore[override]
            pass

    class SaysByName(RoomActor[State], pattern="x"):
        @call(name="say")
        async def told(self, sender: Member | None, text: str) -> None:
            pass

    assert "async" in refusal(NotAsync)
    assert "one argument at most" in refusal(TooMany)
    assert "already" in refusal(Twice)
    assert "'a' cannot be used" in refusal(NoType)
    assert refusal(Says).startswith(".say: takes the place of RoomActor.say")
    assert "say" in read_class(SaysByName, most_state_bytes=1000).calls


@pytest.mark.parametrize("pattern", ["", "a/*", "..", "a\n"])
def test_a_pattern_that_can_match_no_room_is_refused(pattern: str) -> None:
    cls = type("Room", (RoomActor,), {}, pattern=(pattern,))
    assert repr(pattern) in refusal(cls)


def test_a_class_without_rooms_or_with_arguments_is_refused() -> None:
    class NoPattern(RoomActor[State]):
        pass

    class Arguments(RoomActor[State], pattern="x"):
        def __init__(self, color: str) -> None:
            pass

    assert "no rooms" in refusal(NoPattern)
    assert "without arguments" in refusal(Arguments)


class Needs(msgspec.Struct):
    name: str


@pytest.mark.parametrize("state", [Needs, dict, dict[str, int], int, State | None, Any])
def test_a_state_of_no_class_with_defaults_is_refused(state: Any) -> None:
    generic: Any = RoomActor[state]

    class Room(generic, pattern="x"):  # type: ignore[misc]
        pass

    assert "state" in refusal(Room)


def test_a_class_whose_rooms_an_earlier_one_takes_is_refused() -> None:
    class Wide(RoomActor[State], pattern="t.*"):
        pass

    class Narrow(RoomActor[State], pattern=("s", "t.1.*")):
        pass

    read_classes([Narrow, Wide], most_state_bytes=1000)
    with pytest.raises(
        ConfigurationError, match=r"Narrow: its pattern 't\.1\.\*' never decides, as 't\.\*' of .*Wide"
    ):
        read_classes([Wide, Narrow], most_state_bytes=1000)
