"""The methods of a room that clients and services call; arguments and results are checked at the edge. Pure."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, get_type_hints, overload

import attrs
import msgspec

from broker.errors import ConfigurationError
from broker.room_actors.values import Refusal

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

_MARK = "__greenroom_call__"


@overload
def call(method: F) -> F: ...
@overload
def call(*, name: str) -> Callable[[F], F]: ...
def call(method: F | None = None, *, name: str | None = None) -> F | Callable[[F], F]:
    """Let clients and services call a method of a `RoomActor`, by its name or by another.

    The method gets the `Member` that calls, or None for a service, and one argument at most, whose type msgspec knows;
    its result goes back as JSON. An argument of another type is refused before the method is called.
    """

    def mark(marked: F) -> F:
        setattr(marked, _MARK, name or marked.__name__)
        return marked

    return mark if method is None else mark(method)


@attrs.frozen
class CallMethod:
    """A method that may be called."""

    function: Callable[..., Awaitable[Any]]
    argument: msgspec.json.Decoder[Any] | None
    """None: it takes none."""
    is_optional: bool = False

    def arguments(self, method: str, data: bytes | None) -> tuple[Any, ...]:
        """Return the arguments for the `data` of a call; None if it had none.

        :raises Refusal: `invalid_message` if it does not fit.
        """
        if self.argument is None:
            if data is not None and data != b"null":
                raise Refusal(f"data: {method} takes none", code="invalid_message")
            return ()
        if data is None and self.is_optional:
            return ()
        try:
            return (self.argument.decode(b"null" if data is None else data),)
        except msgspec.ValidationError as error:
            raise Refusal(f"data: {error}", code="invalid_message") from None


def find_calls(cls: type, base: type) -> Mapping[str, CallMethod]:
    """Return the methods of a class that are marked by `call`, inherited ones included, by the names for callers.

    :raises ConfigurationError: if one does not have the parameters or the types that it may have, or takes the place of
        what `base` gives to a room.
    """
    found: dict[str, CallMethod] = {}
    for attribute, function in inspect.getmembers(cls, inspect.isfunction):
        name = getattr(function, _MARK, None)
        if name is None:
            continue
        place = f"{cls.__qualname__}.{attribute}"
        if hasattr(base, attribute) or attribute in base.__annotations__:
            raise ConfigurationError(
                f"{place}: takes the place of {base.__name__}.{attribute}; callers may have the name:"
                f" @call(name={name!r}) for a method of another"
            )
        if name in found:
            raise ConfigurationError(f"{place}: another method is called {name!r} already")
        found[name] = _read_method(function, place)
    return found


def _read_method(function: Callable[..., Awaitable[Any]], place: str) -> CallMethod:
    if not inspect.iscoroutinefunction(function):
        raise ConfigurationError(f"{place}: a call is an async method")
    parameters = list(inspect.signature(function).parameters.values())[1:]
    if not 1 <= len(parameters) <= 2 or any(
        each.kind is not each.POSITIONAL_OR_KEYWORD for each in parameters
    ):
        raise ConfigurationError(f"{place}: a call takes self, the sender, and one argument at most")
    if len(parameters) == 1:
        return CallMethod(function, None)
    argument = parameters[1]
    try:
        hints = get_type_hints(function, include_extras=True)
        decoder = msgspec.json.Decoder(hints.get(argument.name, Any))
    except (NameError, TypeError) as error:
        raise ConfigurationError(f"{place}: the type of {argument.name!r} cannot be used: {error}") from None
    return CallMethod(function, decoder, argument.default is not argument.empty)
