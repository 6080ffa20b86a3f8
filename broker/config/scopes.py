"""The scopes of API keys, as the configuration writes them: `read`, or `publish:orders.*`. Pure."""

from enum import StrEnum

import attrs

from broker.config.flaws import flaw_of_pattern
from broker.config.patterns import matches

ANY_ROOM = "*"


class Scope(StrEnum):
    """A kind of calls that an API key may make; a route names the one that it needs. None contains another."""

    PUBLISH = "publish"
    READ = "read"
    ADMIN = "admin"


@attrs.frozen
class Grant:
    """A scope in the rooms that a pattern matches; calls that concern no single room need every room."""

    scope: Scope
    pattern: str = ANY_ROOM

    def allows(self, scope: Scope, room: str | None) -> bool:
        """Whether a call that needs `scope` in `room` is allowed; None stands for every room."""
        return scope is self.scope and (
            self.pattern == ANY_ROOM or (room is not None and matches(self.pattern, room))
        )


EVERYTHING = tuple(Grant(scope) for scope in Scope)


def read_grant(text: str) -> Grant:
    """Read `SCOPE`, or `publish:PATTERN` or `read:PATTERN`.

    :raises ValueError: if it is none; the text says why.
    """
    name, separator, pattern = text.partition(":")
    if name not in set(Scope):
        raise ValueError(f"is none of {', '.join(Scope)}, publish:PATTERN and read:PATTERN")
    if not separator:
        return Grant(Scope(name))
    if name == Scope.ADMIN:
        raise ValueError("has a pattern, which only publish and read take")
    if not pattern:
        raise ValueError("has an empty pattern, which matches no room")
    flaw = flaw_of_pattern(pattern)
    if flaw is not None:
        raise ValueError(flaw)
    return Grant(Scope(name), pattern)
