"""Explains what a user may do in a room, and where the user is connected, over all nodes and workers."""

import attrs
import msgspec

from broker.auth.permissions import Decision, Ground
from broker.errors import Disconnect
from broker.http.nodes.asking import ask_others
from broker.http.nodes.explanation import (
    CloseExplanation,
    ConnectionExplanation,
    NodeExplanation,
    Permission,
    RoomHere,
    TokenVerdict,
)
from broker.http.services import HttpServices
from broker.model import Claims
from broker.refusals import reason_of
from broker.sessions.connections import Connection
from broker.sessions.explain import Action, Explainer

_replies = msgspec.json.Decoder(NodeExplanation)


@attrs.frozen
class Explaining:
    """Explains by the parts of this node, which sessions decide by as well."""

    services: HttpServices

    def judge(self, token: str) -> tuple[TokenVerdict, Claims | None]:
        """Return whether a token is accepted, and then its claims."""
        verifier = self.services.verifier
        try:
            claims = verifier.verify(token)
        except Disconnect as refusal:
            why = reason_of(refusal)
            verdict = TokenVerdict(
                is_accepted=False, reason=None if why is None else why.value, detail=refusal.reason
            )
            return verdict, None
        signer = verifier.signer_of(token)
        return TokenVerdict(True, claims.user_id, claims.expires_at, signer.issuer, signer.key), claims

    def permissions(self, claims: Claims, room: str, *, is_visible: bool | None = None) -> list[Permission]:
        """Return what the bearer of claims may do in a room; a connection keeps its visibility to its end."""
        services = self.services
        if services.revoked.revokes(claims):
            return self.none_of(Decision(Ground.TOKEN, "token was revoked"))
        decisions = Explainer(services.policy, services.hooks).decide_all(
            claims,
            room,
            is_visible=not claims.hidden if is_visible is None else is_visible,
            shows_data=services.shows_data(room),
            has_code=services.rooms.has_code(room),
        )
        return [Permission.of(action, decision) for action, decision in decisions]

    @staticmethod
    def none_of(decision: Decision) -> list[Permission]:
        """Return the permissions of somebody who is refused everything."""
        return [Permission.of(action, decision) for action in Action]

    def explain_here(self, user_id: str, room: str) -> NodeExplanation:
        """Return what this node knows of a user and a room."""
        services, node = self.services, self.services.node
        info = services.rooms.peek(room)
        closes = services.connections.recent_closes.of(user_id, services.wall_clock())
        return NodeExplanation(
            *(node.name, node.machine, node.worker, node.started_ms),
            None if info is None else RoomHere(info.room_size, info.position.offset, info.position.epoch),
            [self._explain(each, room) for each in services.connections.of_user(user_id)],
            [
                CloseExplanation(
                    int(close.time * 1000),
                    close.code,
                    close.reason,
                    "client" if close.is_by_client else "server",
                )
                for close in closes
            ],
        )

    def _explain(self, connection: Connection, room: str) -> ConnectionExplanation:
        claims, facts = connection.claims, connection.facts()
        assert claims is not None, "bearers of the API key are no users"
        last = facts.last_write_seconds
        return ConnectionExplanation(
            facts.id,
            facts.transport,
            facts.since_ms,
            room in connection.rooms,
            connection.queued_bytes,
            None if last is None else int(last * 1000),
            claims.expires_at,
            self.permissions(claims, room, is_visible=facts.is_visible),
        )


async def explain_everywhere(
    services: HttpServices, question: bytes, user_id: str, room: str
) -> tuple[list[NodeExplanation], int]:
    """Return what all nodes know of a user and a room, and how many did not answer."""
    others = await ask_others(services, question)
    # A worker may have answered in two ways.
    found = {}
    for packed in others.packed:
        try:
            reply = _replies.decode(packed)
        except msgspec.MsgspecError:
            # From another version.
            others.silent += 1
        else:
            found[reply.node, reply.started_ms] = reply
    own = Explaining(services).explain_here(user_id, room)
    found[own.node, own.started_ms] = own
    return sorted(found.values(), key=lambda each: (each.machine, each.worker, each.node)), others.silent
