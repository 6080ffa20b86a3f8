"""The decisions about each thing that a client may do in a room, as sessions and rooms make them. Nothing is asked or done."""

from collections.abc import Iterator
from enum import StrEnum

import attrs

from broker.auth.permissions import AccessPolicy, Decision, Ground, decide_by_can, decide_join
from broker.hooks.ask import HookKind
from broker.hooks.hooks import Hooks
from broker.model import Capability, Claims


class Action(StrEnum):
    """Something that a client may do in a room."""

    JOIN = "join"
    CHAT = "chat"
    PUBLISH = "publish"
    PRESENCE = "presence"
    HISTORY = "history"
    CALL = "call"
    SET_STATE = "set_state"


_ASKED = {
    Action.JOIN: HookKind.JOIN,
    Action.CHAT: HookKind.PUBLISH,
    Action.PUBLISH: HookKind.PUBLISH,
    Action.CALL: HookKind.CALL,
}


def decide_state(*, is_visible: bool, shows_data: bool) -> Decision:
    """Decide whether a connection may show a state in a room.

    Whoever may join may: it says less than the presence of the connection does.
    """
    if not is_visible:
        return Decision(Ground.HIDDEN, "a hidden connection shows no state")
    if not shows_data:
        return Decision(Ground.PRESENCE_DATA, "this room shows no state (presence_data)")
    return Decision(Ground.PRESENCE_DATA)


NO_ANSWER = Decision(Ground.NO_HOOK, "nothing answers calls in this room")


@attrs.frozen
class Explainer:
    """Decides by the parts that sessions decide by."""

    policy: AccessPolicy
    hooks: Hooks | None

    def decide_all(
        self, claims: Claims, room: str, *, is_visible: bool, shows_data: bool, has_code: bool = False
    ) -> Iterator[tuple[Action, Decision]]:
        """Decide about every action.

        Where the application is asked, its hook, or else the room's code, is the ground, and nothing is refused.
        """
        join = decide_join(self.policy, claims, room)
        for action in Action:
            if join.refusal is not None:
                # Nothing else can be done in a room that cannot be joined.
                yield action, join
                continue
            decision = join
            if action is Action.SET_STATE:
                decision = decide_state(is_visible=is_visible, shows_data=shows_data)
            elif action is not Action.JOIN:
                decision = decide_by_can(claims, Capability(action.value))
            if decision.refusal is None:
                decision = self._by_application(action, room, decision, has_code=has_code)
            yield action, decision

    def _by_application(self, action: Action, room: str, otherwise: Decision, *, has_code: bool) -> Decision:
        kind = _ASKED.get(action)
        gate = None if kind is None or self.hooks is None else self.hooks.find(kind, room)
        if gate is not None:
            return Decision(Ground.HOOK, by=gate.name)
        if has_code and kind is not None:
            return Decision(Ground.CODE)
        return NO_ANSWER if action is Action.CALL else otherwise
