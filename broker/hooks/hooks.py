"""All hooks of a server. The first one that is for a step decides about it, as with room rules."""

from collections.abc import Sequence

import attrs

from broker.hooks.answers import Allowed
from broker.hooks.ask import Ask, HookKind
from broker.hooks.gate import Gate


@attrs.frozen(eq=False)
class Hooks:
    """The hooks in their order; there is at least one."""

    gates: Sequence[Gate]
    header_names: frozenset[str] = frozenset()
    """Headers of the handshake that any hook is sent, in lower case."""
    cookie_names: frozenset[str] = frozenset()
    longest_seconds: float = attrs.field(
        default=attrs.Factory(
            lambda self: max(gate.options.timeout_seconds for gate in self.gates), takes_self=True
        )
    )
    """The longest time that a decision takes."""

    @property
    def is_traced(self) -> bool:
        """Whether questions are spans, so that they need the traceparent of their requests."""
        return False

    def find(self, kind: HookKind, room: str | None) -> Gate | None:
        """Return the hook that decides about a step; None if none does."""
        for gate in self.gates:
            if gate.is_for(kind, room):
                return gate
        return None

    async def decide(self, ask: Ask) -> Allowed:
        """Let the application decide; see `Gate.decide`. Without a hook for the step, it is allowed; a call needs one."""
        gate = self.find(ask.kind, ask.room)
        return Allowed() if gate is None else await gate.decide(ask)
