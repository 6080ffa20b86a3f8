"""The state of a room as JSON: its type, version and migration. Pure."""

from dataclasses import is_dataclass
from typing import Any, TypeVar, get_args, get_origin

import attrs
import msgspec

from broker.engine.room_store import StoredState
from broker.errors import ConfigurationError, GreenroomError


class StateError(GreenroomError):
    """The state of a room cannot be read or stored; the text names the room and its class."""


@attrs.frozen
class StateCodec:
    """Encodes and decodes the state of one class of rooms."""

    class_name: str
    version: int
    state_type: type[Any] | None
    """None: the class has no state."""
    most_bytes: int
    cls: Any
    """The class, for its `migrate`."""
    _decoder: msgspec.json.Decoder[Any] | None = attrs.field(init=False)

    @_decoder.default
    def _make_decoder(self) -> msgspec.json.Decoder[Any] | None:
        return None if self.state_type is None else msgspec.json.Decoder(self.state_type)

    def initial(self) -> Any:
        """Return the state of a room of which nothing is stored."""
        return None if self.state_type is None else self.state_type()

    def encode(self, room: str, state: Any) -> bytes:
        """Return a state as JSON.

        :raises StateError: if it has no JSON form, or is too large.
        """
        if self.state_type is None:
            if state is not None:
                raise StateError(
                    f"room {room!r} ({self.class_name}) has no state: name its type, class …(RoomActor[State])"
                )
            return b"null"
        if not isinstance(state, self.state_type):
            raise StateError(
                f"the state of room {room!r} ({self.class_name}) is no {self.state_type.__qualname__}"
                f" but a {type(state).__qualname__}"
            )
        try:
            content = msgspec.json.encode(state)
        except (TypeError, ValueError, RecursionError, UnicodeError) as error:
            raise StateError(
                f"the state of room {room!r} ({self.class_name}) cannot be stored: {error}"
            ) from error
        if len(content) > self.most_bytes:
            raise StateError(
                f"the state of room {room!r} ({self.class_name}) has {len(content)} bytes;"
                f" at most {self.most_bytes} (limits.room_state_bytes)"
            )
        return content

    def decode(self, content: bytes) -> Any:
        """Return the state for JSON of `encode`."""
        return None if self._decoder is None else self._decoder.decode(content)

    def check(self, room: str, content: bytes) -> None:
        """Check that JSON of `encode` can be read again: no field of the state has a value of another type.

        :raises StateError: if it cannot, which would be the end of a room whose state it is.
        """
        try:
            self.decode(content)
        except Exception as error:  # also of the application's code
            raise StateError(
                f"the state of room {room!r} ({self.class_name}) could not be read again: {error}"
            ) from error

    def load(self, room: str, stored: StoredState) -> Any:
        """Return a stored state, migrated if an earlier version of the class has stored it.

        :raises StateError: if it cannot be read: it is never replaced by a new one.
        """
        where = f"the state of room {room!r}"
        if stored.class_name != self.class_name:
            raise StateError(
                f"{where} was stored by {stored.class_name}, not by {self.class_name}; `state_name` names the class in the store"
            )
        if stored.version > self.version:
            raise StateError(
                f"{where} ({self.class_name}) has version {stored.version}, which is later than {self.version}"
            )
        try:
            if stored.version == self.version:
                return self.decode(stored.content)
            migrated = self.cls.migrate(msgspec.json.decode(stored.content), stored.version)
            return self.decode(msgspec.json.encode(migrated))
        except Exception as error:  # the application's code
            raise StateError(
                f"{where} ({self.class_name}, version {stored.version}) cannot be read: {error}"
            ) from error


def find_state_type(cls: type, base: type) -> type[Any] | None:
    """Return the type that a class gives to its generic `base`; None if it gives none.

    :raises ConfigurationError: if such a state cannot be made without arguments.
    """
    for each in cls.__mro__:
        for generic in getattr(each, "__orig_bases__", ()):
            origin = get_origin(generic)
            if isinstance(origin, type) and issubclass(origin, base):
                found = get_args(generic)[0]
                if not isinstance(found, TypeVar):
                    return _checked(cls, found)
    return None


def _checked(cls: type, found: Any) -> type[Any] | None:
    if found is type(None):
        return None
    if not isinstance(found, type) or not _has_fields(found):
        raise ConfigurationError(
            f"{cls.__qualname__}: its state {found!r} must be a msgspec.Struct, an attrs class or a dataclass"
        )
    try:
        msgspec.json.decode(msgspec.json.encode(found()), type=found)
    except Exception as error:  # noqa: BLE001  # of the application's code
        raise ConfigurationError(
            f"{cls.__qualname__}: its state {found.__qualname__} must be made without arguments, stored and read as JSON"
            f" (all its fields have defaults): {error}"
        ) from None
    return found


def _has_fields(found: type[Any]) -> bool:
    return issubclass(found, msgspec.Struct) or attrs.has(found) or is_dataclass(found)
