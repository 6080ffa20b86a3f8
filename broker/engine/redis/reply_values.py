"""The values of which replies consist. Pure; each function raises ValueError for anything but the value that it returns."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import msgspec

INT64 = 1 << 63

P = ParamSpec("P")
T = TypeVar("T")


def of_msgspec(parse: Callable[P, T]) -> Callable[P, T]:
    """Make `parse` raise only ValueError; a MessagePack array that announces 2**32 elements is a MemoryError."""

    @wraps(parse)
    def parse_or_refuse(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return parse(*args, **kwargs)
        except (msgspec.MsgspecError, MemoryError, RecursionError) as error:
            raise ValueError(str(error)) from error

    return parse_or_refuse


def pairs(flat: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Return the pairs of a flat list: key, value, key, value."""
    return list(zip(flat[::2], flat[1::2], strict=True))


def array(value: object, length: int | None = None) -> list[Any]:
    """Return an array, of that length if one is given."""
    # Not isinstance: a push of RESP 3 is a list too.
    if type(value) is not list or (length is not None and len(value) != length):
        raise ValueError("not the array that was expected")
    return value


def binary(value: object) -> bytes:
    """Return a string."""
    if type(value) is not bytes:
        raise ValueError("not a string")
    return value


def text(value: object) -> str:
    """Return a string that is UTF-8."""
    return binary(value).decode()


def integer(value: object, least: int = 0) -> int:
    """Return a number."""
    if type(value) is not int or value < least:
        raise ValueError("not a number within its bounds")
    return value


def decimal(value: object, most: int = INT64 - 1) -> int:
    """Return the number in a string of digits."""
    if type(value) is not bytes or not value.isdigit() or len(value) > 19 or int(value) > most:
        raise ValueError("not a number within its bounds")
    return int(value)


def signed_decimal(value: object) -> int:
    """Return the number in a string of digits, with a minus sign before it if it is negative."""
    digits = binary(value)
    return -decimal(digits[1:]) if digits[:1] == b"-" else decimal(digits)
