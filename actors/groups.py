"""Exception groups, taken apart. Pure."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

E = TypeVar("E", bound=BaseException)


def leaves(group: BaseExceptionGroup[E]) -> list[E]:
    """Return the plain exceptions in a group and in the groups within it, in order."""
    found: list[E] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def sole_error(error: Exception) -> Exception:
    """Return the one exception inside nested groups of one, else `error` itself."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


@contextmanager
def raising_sole_error() -> Iterator[None]:
    """Raise the one exception of a nursery's group as itself; groups inside it stay as they are."""
    sole: BaseException | None = None
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        sole = group.exceptions[0]
    if sole is not None:
        raise sole
