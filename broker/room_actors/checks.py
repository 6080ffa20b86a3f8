"""Checks that a class of rooms can work, before it serves one: what it never would be called for is told at the start. Pure."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from broker.config.flaws import flaw_of_pattern
from broker.config.patterns import matches
from broker.errors import ConfigurationError
from broker.room_actors.actor import RoomActor, is_async_function

_HANDLERS = {
    name: [each for each in inspect.signature(function).parameters if each != "self"]
    for name, function in inspect.getmembers(RoomActor, inspect.iscoroutinefunction)
}
"""The methods that the room calls, with their parameters beside `self`."""


def check_class(cls: type[RoomActor[Any]]) -> None:
    """Check the patterns, handlers and attributes of a class.

    :raises ConfigurationError: names the class, the method, and what is wrong.
    """
    for problem in _problems_of(cls):
        raise ConfigurationError(f"{cls.__qualname__}{problem}")


def check_together(classes: Sequence[type[RoomActor[Any]]]) -> None:
    """Check that each pattern has rooms which no earlier class takes.

    :raises ConfigurationError: names both classes and the pattern.
    """
    earlier: list[tuple[type, str]] = []
    for cls in classes:
        for pattern in cls.patterns:
            for other, taken in earlier:
                if other is not cls and matches(taken, pattern):
                    raise ConfigurationError(
                        f"{cls.__qualname__}: its pattern {pattern!r} never decides, as {taken!r} of {other.__qualname__} matches"
                        " all of its rooms: the first class wins (--rooms module:name,name gives their order)"
                    )
        earlier += [(cls, pattern) for pattern in cls.patterns]


def _problems_of(cls: type[RoomActor[Any]]) -> Iterator[str]:
    if not cls.patterns:
        yield f': no rooms: class {cls.__qualname__}(RoomActor, pattern="…")'
    for pattern in cls.patterns:
        flaw = flaw_of_pattern(pattern) if pattern else "is empty, which no room's name is"
        if flaw is not None:
            yield f": its pattern {pattern!r} {flaw}"
    if not _takes(cls, 0):
        yield ": must be made without arguments: a room's values belong in its state"
    if not cls.turn_seconds > 0:
        yield f".turn_seconds: {cls.turn_seconds!r} is no time of a turn"
    for name, parameters in _HANDLERS.items():
        if not is_async_function(inspect.getattr_static(cls, name)):
            yield f".{name}: is called as an async method: async def {name}({', '.join(['self', *parameters])})"
        if not _takes(getattr(cls, name), 1 + len(parameters)):
            yield f".{name}: is called with ({', '.join(['self', *parameters])})"
    yield from _misspelt(cls)
    yield from _problems_of_migration(cls)


def _misspelt(cls: type[RoomActor[Any]]) -> Iterator[str]:
    """Names that begin with `on_` are kept for what the room calls, so that it calls all that there is."""
    for name in dir(cls):
        if name.startswith("on_") and name not in _HANDLERS and callable(getattr(cls, name)):
            close = get_close_matches(name, _HANDLERS, 1)
            hint = f"did you mean {close[0]}?" if close else f"a room calls {', '.join(_HANDLERS)}"
            yield f".{name}: is never called: {hint}"


def _problems_of_migration(cls: type[RoomActor[Any]]) -> Iterator[str]:
    migrate: Callable[..., Any] = cls.migrate
    if getattr(migrate, "__func__", None) is RoomActor.migrate.__func__:  # type: ignore[attr-defined]
        if cls.state_version > 1:
            yield (
                f".state_version: is {cls.state_version}, but nothing reads earlier states:"
                " @classmethod def migrate(cls, state, version)"
            )
        return
    is_bound = isinstance(inspect.getattr_static(cls, "migrate"), classmethod | staticmethod)
    if not is_bound or inspect.iscoroutinefunction(migrate) or not _takes(migrate, 2):
        yield ".migrate: is called on the class and not awaited: @classmethod def migrate(cls, state, version)"


def _takes(function: Callable[..., Any], arguments: int) -> bool:
    """Whether a function can be called with as many positional arguments."""
    try:
        inspect.signature(function).bind(*[None] * arguments)
    except TypeError:
        return False
    return True
