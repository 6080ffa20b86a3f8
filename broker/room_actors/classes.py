"""The classes of rooms that a broker serves: which one is for which name."""

import importlib
import inspect
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from broker.config.patterns import matches
from broker.errors import ConfigurationError
from broker.room_actors.actor import RoomActor
from broker.room_actors.calls import CallMethod, find_calls
from broker.room_actors.checks import check_class, check_together
from broker.room_actors.state import StateCodec, find_state_type


@attrs.frozen
class ActorClass:
    """A class, checked, with what is derived from it."""

    cls: type[RoomActor[Any]]
    codec: StateCodec
    calls: Mapping[str, CallMethod]

    def is_for(self, room: str) -> bool:
        """Whether a room is one of the class's."""
        return any(matches(pattern, room) for pattern in self.cls.patterns)


def read_class(cls: type[RoomActor[Any]], *, most_state_bytes: int) -> ActorClass:
    """Check a class.

    :raises ConfigurationError: if it has no pattern, or a method, a state or a call that cannot be used.
    """
    check_class(cls)
    codec = StateCodec(
        cls.state_name, cls.state_version, find_state_type(cls, RoomActor), most_state_bytes, cls
    )
    return ActorClass(cls, codec, find_calls(cls, RoomActor))


def read_classes(classes: Sequence[type[RoomActor[Any]]], *, most_state_bytes: int) -> list[ActorClass]:
    """Check classes that are served together.

    :raises ConfigurationError: if one cannot be used, or has a pattern whose rooms an earlier one takes.
    """
    check_together(classes)
    return [read_class(each, most_state_bytes=most_state_bytes) for each in classes]


def find_class(classes: Sequence[ActorClass], room: str) -> ActorClass | None:
    """Return the first class that is for a room."""
    for each in classes:
        if each.is_for(room):
            return each
    return None


def import_rooms(place: str) -> list[type[RoomActor[Any]]]:
    """Return the classes at `module` (all that it defines or imports and that have a pattern) or `module:name,name`.

    :raises ConfigurationError: if the module cannot be imported, or has no such class.
    """
    module_name, _, names = place.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"--rooms: {module_name} cannot be imported: {_one_line(error)}") from error
    if not names:
        found = [each for _, each in inspect.getmembers(module, _is_served)]
        if not found:
            raise ConfigurationError(f"--rooms: {module_name} has no RoomActor with a pattern")
        return sorted(found, key=lambda cls: inspect.getsourcelines(cls)[1])
    classes: list[type[RoomActor[Any]]] = []
    for name in names.split(","):
        cls: Any = getattr(module, name, None)
        if not _is_served(cls):
            raise ConfigurationError(f"--rooms: {module_name}:{name} is no RoomActor with a pattern")
        classes.append(cls)
    return classes


def _one_line(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()


def _is_served(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, RoomActor) and bool(value.patterns)
