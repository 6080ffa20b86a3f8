"""The shapes of an explanation: what a user may do in a room and why, and where the user is connected."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from broker.auth.permissions import Decision, Ground
from broker.sessions.explain import Action


class Permission(msgspec.Struct, frozen=True):
    """The decision about one action."""

    action: Action
    verdict: Annotated[
        Literal["allowed", "refused", "asked"],
        Meta(description="asked: the application decides, by a hook or the room's code, each time"),
    ]
    ground: Annotated[Ground, Meta(description="the rule, claim or part that decides")]
    by: Annotated[
        str | None, Meta(description="the pattern of the rule or claim, or the hook by its place in the file")
    ]
    detail: Annotated[str | None, Meta(description="the message that a client is refused with")]

    @classmethod
    def of(cls, action: Action, decision: Decision) -> "Permission":
        """Return the permission that a decision means."""
        verdict: Literal["allowed", "refused", "asked"] = "allowed"
        if decision.refusal is not None:
            verdict = "refused"
        elif decision.ground in {Ground.HOOK, Ground.CODE}:
            verdict = "asked"
        return cls(action, verdict, decision.ground, decision.by, decision.refusal)


class TokenVerdict(msgspec.Struct, frozen=True):
    """Whether a token is accepted; if not, `reason` and `detail` are those of its refusal."""

    is_accepted: bool
    user_id: str | None = None
    expires_at: Annotated[float | None, Meta(description="Unix seconds; null without `exp`")] = None
    issuer: Annotated[
        str | None, Meta(description="the `iss` of its issuer; null for that of `[auth]` itself")
    ] = None
    key: Annotated[
        str | None, Meta(description="what verified it: secret, previous_secret, or the kid or public key")
    ] = None
    reason: Annotated[str | None, Meta(description="as in greenroom_refusals_total")] = None
    detail: str | None = None


class ConnectionExplanation(msgspec.Struct, frozen=True):
    """One connection of the user."""

    connection: str
    transport: Literal["websocket", "event_stream"]
    since_ms: Annotated[int, Meta(description="Unix milliseconds")]
    is_in_room: bool
    queued_bytes: Annotated[int, Meta(description="that wait for its peer to read")]
    last_write_ms: Annotated[
        int | None,
        Meta(description="milliseconds since bytes were last sent to it; null where that is not known"),
    ]
    token_expires_at: Annotated[float | None, Meta(description="Unix seconds; null without `exp`")]
    permissions: Annotated[list[Permission], Meta(description="by its newest token")]


class CloseExplanation(msgspec.Struct, frozen=True):
    """The end of an earlier connection of the user."""

    time: Annotated[int, Meta(description="Unix milliseconds")]
    code: int
    reason: str
    by: Literal["client", "server"]


class RoomHere(msgspec.Struct, frozen=True):
    """A room as one node has it: up to this position, its members there have all events in their outboxes."""

    room_size: int
    offset: int
    epoch: str


class NodeExplanation(msgspec.Struct, frozen=True):
    """One node's knowledge of the user."""

    node: str
    machine: str
    worker: int
    started_ms: int
    room: Annotated[RoomHere | None, Meta(description="null if the room is not in memory there")]
    connections: list[ConnectionExplanation]
    closes: Annotated[
        list[CloseExplanation], Meta(description="the last five of the last hour, the newest first")
    ]
