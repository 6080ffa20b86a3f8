"""The shapes of what the console is told."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from broker.http.nodes.busiest import Order
from broker.http.nodes.traffic import TrafficPoint

MOST_ROOMS = 200


class NodeQuery(msgspec.Struct, frozen=True):
    """How much to tell."""

    since: Annotated[
        int, Meta(ge=0, description="number of the last traffic point that is known; only those behind it")
    ] = 0
    rooms: Annotated[int, Meta(ge=0, le=MOST_ROOMS, description="how many rooms")] = 20
    order: Annotated[
        Order, Meta(description="the rooms with most messages per second, or most connections")
    ] = "busiest"
    prefix: Annotated[str, Meta(description="only rooms whose names begin so")] = ""
    node: Annotated[
        str, Meta(description="a name out of `nodes`, or all; not given: the node that took the connection")
    ] = ""


class EngineState(msgspec.Struct, frozen=True):
    """What keeps the rooms' events. The address is not told: it may hold a password."""

    name: str
    statistics: Annotated[dict[str, int | float | str], Meta(description="the engine's own")]


class RoomActivity(msgspec.Struct, frozen=True):
    """A room and what goes on in it."""

    room: str
    room_size: Annotated[int, Meta(description="connections in the room")]
    messages_per_second: Annotated[
        float | None, Meta(description="since a look of a second or so ago; null if there was none")
    ]


class RoomsState(msgspec.Struct, frozen=True):
    """The rooms in memory. `found` is how many have the prefix, of which `top` shows the first."""

    count: int
    members: Annotated[int, Meta(description="connections, counted once for each room they are in")]
    found: int
    top: list[RoomActivity]


class SlowReader(msgspec.Struct, frozen=True):
    """A connection for which something waits."""

    user_id: Annotated[str, Meta(description="api/… for one that listens with the API key")]
    queued_bytes: int


class SlowReaders(msgspec.Struct, frozen=True):
    """Connections for which something waits that their kernel has not taken; `top` shows those with most."""

    count: int
    queued_bytes: int
    limit_bytes: Annotated[int, Meta(description="websocket.outbox_bytes: past it, a connection is too slow")]
    top: list[SlowReader]


class NodeSummary(msgspec.Struct, frozen=True):
    """One of the nodes that share an engine."""

    name: str
    machine: str
    worker: int
    version: str
    started_ms: int
    is_ready: bool
    is_draining: bool
    connections: int
    rooms: Annotated[int, Meta(description="in memory on this node")]
    members: Annotated[int, Meta(description="connections of this node, once for each room they are in")]
    publishes_per_second: float
    deliveries_per_second: float
    cpu: float
    p99_ms: float | None
    up_ms: int = 0


class NodeState(msgspec.Struct, frozen=True):
    """How this node is, and what went on in the last minutes."""

    name: Annotated[str, Meta(description="all, if it is all nodes together")]
    machine: str
    worker: Annotated[int, Meta(description="which of the workers of its machine, from 0")]
    version: str
    started_ms: int
    time_ms: int
    is_ready: bool
    is_draining: bool
    reasons: Annotated[list[str], Meta(description="why it is not ready")]
    makes_tokens: Annotated[bool, Meta(description="whether POST /api/dev/tokens is there (--dev)")]
    engine: EngineState
    connections: int
    deliveries: Annotated[int, Meta(description="since the server started")]
    deliveries_lost: Annotated[int, Meta(description="refused by outboxes that were full")]
    rooms: RoomsState
    slow_readers: SlowReaders
    traffic: Annotated[
        list[TrafficPoint],
        Meta(
            description="a point for each second, five minutes at most; of all nodes, numbered by Unix second"
        ),
    ]
    nodes: Annotated[list[NodeSummary], Meta(description="those that answered")] = []
    silent_nodes: Annotated[int, Meta(description="those that did not answer in time")] = 0
    up_ms: Annotated[int, Meta(description="since it started, whatever the wall clock was set to")] = 0


class TokenRequest(msgspec.Struct, frozen=True):
    """Whom a token is for, and what it allows: everything that the room rules do, if nothing is said."""

    user_id: Annotated[str, Meta(min_length=1, max_length=128)]
    rooms: Annotated[list[str] | UnsetType, Meta(description="patterns of rooms that it may join")] = UNSET
    can: Annotated[
        list[str] | UnsetType, Meta(description="out of join, chat, publish, presence, history")
    ] = UNSET
    ttl_seconds: Annotated[float, Meta(gt=0, le=366 * 86_400)] = 3600.0


class MintedToken(msgspec.Struct, frozen=True):
    """A client token."""

    token: str
    user_id: str
    expires_at: Annotated[int, Meta(description="Unix seconds")]
