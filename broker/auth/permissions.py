"""Decisions about the capabilities of a bearer of claims in a room."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import attrs
import msgspec

from broker.config.patterns import matches
from broker.config.settings import RoomRule, Settings
from broker.errors import ErrorCode, Refused
from broker.model import PRIVATE_PREFIX, Capability, Claims, Position


class Ground(StrEnum):
    """The rule, claim or part that decides what a client may do in a room."""

    CLAIM_CAN = "claim_can"
    CLAIM_ROOMS = "claim_rooms"
    PRIVATE_ROOM = "private_room"
    """The built-in rule of `user_{id}`."""
    ROOM_RULE = "room_rule"
    """The first rule of `[[rooms]]` that fits."""
    NO_RULE = "no_rule"
    """No rule fits: the room is open to every user."""
    OWN_POLICY = "own_policy"
    """The policy of the embedding program."""
    HOOK = "hook"
    """The application is asked."""
    CODE = "code"
    """The room's own code is asked."""
    NO_HOOK = "no_hook"
    """Nothing answers calls in the room."""
    HIDDEN = "hidden"
    """The claim `hidden` of the token."""
    PRESENCE_DATA = "presence_data"
    """The setting `presence_data` of the room."""
    TOKEN = "token"  # noqa: S105  # no secret
    """The token is not accepted at all."""


class Decision(msgspec.Struct, frozen=True, gc=False):
    """A decision, and the ground for it. `refusal` is the message for the client; None if it is allowed."""

    ground: Ground
    refusal: str | None = None
    by: str | None = None
    """The pattern of the rule or claim, or the name of the hook."""

    def check(self) -> None:
        """Return if it is allowed.

        :raises Refused: `forbidden` if not.
        """
        if self.refusal is not None:
            raise _forbidden(self.refusal)


def decide_by_can(claims: Claims, capability: Capability) -> Decision:
    """Decide by the claim `can` alone; the join has decided whether the token permits the room."""
    if capability not in claims.can:
        return Decision(Ground.CLAIM_CAN, f"the token does not allow {capability}")
    return _CAN


_CAN = Decision(Ground.CLAIM_CAN)
_NO_RULE = Decision(Ground.NO_RULE)


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

        :raises Refused: `forbidden`, naming what is missing.
        """
        self.decide(claims, room, capability).check()

    def decide(self, claims: Claims, room: str, capability: Capability) -> Decision:
        """Decide whether the bearer of `claims` may use `capability` in `room`.

        In order: the token's `can`, the built-in rule, the token's `rooms`, the first configured rule
        that matches. A room without a rule is open to every user.
        """
        if capability not in claims.can:
            return Decision(Ground.CLAIM_CAN, f"the token does not allow {capability} (claim can)")
        is_private = self.private_user_rooms and room.startswith(PRIVATE_PREFIX)
        if is_private and room != PRIVATE_PREFIX + claims.user_id:
            return Decision(
                Ground.PRIVATE_ROOM, f"a room {PRIVATE_PREFIX}{{id}} is only for the user with that id"
            )
        named_by = None
        if claims.rooms is not None:
            named_by = next((pattern for pattern in claims.rooms if matches(pattern, room)), None)
            if named_by is None:
                return Decision(Ground.CLAIM_ROOMS, "the token does not allow this room (claim rooms)")
        rule = find_rule(self.rules, room)
        if rule is not None:
            return _decide_by_rule(rule, claims)
        if named_by is not None:
            return Decision(Ground.CLAIM_ROOMS, by=named_by)
        return Decision(Ground.PRIVATE_ROOM) if is_private else _NO_RULE


def _decide_by_rule(rule: RoomRule, claims: Claims) -> Decision:
    refusal = None
    if rule.access == "none":
        refusal = "this room is not open to clients"
    elif rule.access == "token" and claims.rooms is None:
        refusal = "this room needs a token that names it (claim rooms)"
    return Decision(Ground.ROOM_RULE, refusal, rule.pattern)


def decide_join(policy: AccessPolicy, claims: Claims, room: str) -> Decision:
    """Decide by `policy` whether the bearer of `claims` may join `room`."""
    if isinstance(policy, RoomPolicy):
        return policy.decide(claims, room, Capability.JOIN)
    try:
        policy.check(claims, room, Capability.JOIN)
    except Refused as refused:
        return Decision(Ground.OWN_POLICY, refused.message)
    return Decision(Ground.OWN_POLICY)


def _forbidden(message: str) -> Refused:
    return Refused(ErrorCode.FORBIDDEN, message)
