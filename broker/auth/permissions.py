"""Decisions about the capabilities of a bearer of claims in a room."""

from collections.abc import Sequence
from typing import Protocol

import attrs

from broker.config.patterns import matches
from broker.config.settings import RoomRule, Settings
from broker.errors import ErrorCode, Refused
from broker.model import PRIVATE_PREFIX, Capability, Claims, Position


def recovery_start(claims: Claims, since: Position | None) -> Position | None:
    """Return from where a join may recover what was missed: None without the capability `history`.

    Messages after a position that a client names are history, whether it was ever in the room or not.
    """
    return since if Capability.HISTORY in claims.can else None


def check_last(claims: Claims | None, last: int, since: Position | None) -> None:
    """Check that a join may ask for the `last` events of a room; `claims` is None for a bearer of the API key.

    :raises Refused: `invalid_message` if `last` is not positive, or there is a `since`; `forbidden` without `history`.
    """
    if last < 1:
        raise Refused(ErrorCode.INVALID_MESSAGE, "last: an integer from 1")
    if since is not None:
        raise Refused(ErrorCode.INVALID_MESSAGE, "last: not together with since")
    if claims is not None and Capability.HISTORY not in claims.can:
        raise _forbidden(f"the token does not allow {Capability.HISTORY} (claim can)")


def find_rule(rules: Sequence[RoomRule], room: str) -> RoomRule | None:
    """Return the first of `rules` whose pattern fits `room`."""
    for rule in rules:
        if matches(rule.pattern, room):
            return rule
    return None


class AccessPolicy(Protocol):
    """Decides whether the bearer of a token may join a room; the token's `can` bounds what it may do there."""

    def check(self, claims: Claims, room: str, capability: Capability) -> None:
        """Return if the bearer of `claims` may use `capability` in `room`; never blocks.

        :raises Refused: if not; `forbidden`, with a message for the client.
        """


@attrs.frozen
class RoomPolicy:
    """The room rules of the configuration and the built-in one. Pure.

    The built-in rule comes first and nothing opens what it closes, neither a token's patterns nor a
    configured rule: `user_{id}` is only for the user whose `sub` is {id}. `auth.private_user_rooms =
    false` switches it off.
    """

    rules: tuple[RoomRule, ...]
    private_user_rooms: bool

    @classmethod
    def from_settings(cls, settings: Settings) -> "RoomPolicy":
        """Return the policy of a configuration."""
        return cls(settings.rooms, settings.auth.private_user_rooms)

    def check(self, claims: Claims, room: str, capability: Capability) -> None:
        """Check that the bearer of `claims` may use `capability` in `room`.

        In order: the token's `can`, the built-in rule, the token's `rooms`, the first configured rule
        that matches. A room without a rule is open to every user.

        :raises Refused: `forbidden`, naming what is missing.
        """
        if capability not in claims.can:
            raise _forbidden(f"the token does not allow {capability} (claim can)")
        if (
            self.private_user_rooms
            and room.startswith(PRIVATE_PREFIX)
            and room != PRIVATE_PREFIX + claims.user_id
        ):
            raise _forbidden(f"a room {PRIVATE_PREFIX}{{id}} is only for the user with that id")
        if claims.rooms is not None and not any(matches(pattern, room) for pattern in claims.rooms):
            raise _forbidden("the token does not allow this room (claim rooms)")
        rule = find_rule(self.rules, room)
        if rule is None:
            return
        if rule.access == "none":
            raise _forbidden("this room is not open to clients")
        if rule.access == "token" and claims.rooms is None:
            raise _forbidden("this room needs a token that names it (claim rooms)")


def _forbidden(message: str) -> Refused:
    return Refused(ErrorCode.FORBIDDEN, message)
