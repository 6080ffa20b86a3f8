"""The JSON shapes of `/api/node`, which the console reads."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from broker.http.nodes.busiest import Order
from broker.http.nodes.traffic import TrafficPoint

MOST_ROOMS = 200


class NodeQuery(msgspec.Struct, frozen=True):
    """The node asked for, and the extent of the answer."""

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
    """The engine of the rooms' events, without its address, which may hold a password."""

    name: str
    statistics: Annotated[dict[str, int | float | str], Meta(description="the engine's own")]


class RoomActivity(msgspec.Struct, frozen=True):
    """A room and its traffic."""

    room: str
    room_size: Annotated[int, Meta(description="connections in the room")]
    messages_per_second: Annotated[
        float | None, Meta(description="since a sample of a second or so ago; null if there was none")
    ]


class RoomsState(msgspec.Struct, frozen=True):
    """The rooms in memory. `found` is how many have the prefix, of which `top` shows the first."""

    count: int
    members: Annotated[int, Meta(description="connections, counted once for each room they are in")]
    found: int
    top: list[RoomActivity]


class SlowReader(msgspec.Struct, frozen=True):
    """A connection with a queue."""

    user_id: Annotated[str, Meta(description="api/… for one that listens with the API key")]
    queued_bytes: int


class SlowReaders(msgspec.Struct, frozen=True):
    """Connections with bytes queued that the kernel has not taken; `top` has the longest queues."""

    count: int
    queued_bytes: int
    limit_bytes: Annotated[int, Meta(description="websocket.outbox_bytes: past it, a connection is too slow")]
    top: list[SlowReader]


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a node's state that takes the same short time whatever the node holds."""

    name: Annotated[str, Meta(description="all, if it is all nodes together")]
    machine: str
    worker: Annotated[int, Meta(description="which of the workers of its machine, from 0")]
    version: str
    started_ms: int
    is_ready: bool
    is_draining: bool
    connections: Annotated[int, Meta(description="of users; bearers of the API key only listen")]
    up_ms: Annotated[int, Meta(description="since it started, whatever the wall clock was set to")] = 0


class NodeSummary(NodeFacts, frozen=True, kw_only=True):
    """One of the nodes that share an engine."""

    rooms: Annotated[int, Meta(description="in memory on this node")]
    members: Annotated[int, Meta(description="connections of this node, once for each room they are in")]
    publishes_per_second: float
    deliveries_per_second: float
    cpu: float
    p99_ms: Annotated[float | None, Meta(description="of the last minute; null when nothing was published")]


class NodeState(NodeFacts, frozen=True, kw_only=True):
    """The state of a node, and its traffic of the last minutes."""

    time_ms: int
    reasons: Annotated[list[str], Meta(description="why it is not ready")]
    makes_tokens: Annotated[bool, Meta(description="whether POST /api/dev/tokens is there (--dev)")]
    engine: EngineState
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


class TokenRequest(msgspec.Struct, frozen=True):
    """The user and the permissions of a token; by default all that the room rules allow."""

    user_id: Annotated[str, Meta(min_length=1, max_length=128)]
    rooms: Annotated[list[str] | UnsetType, Meta(description="patterns of rooms that it may join")] = UNSET
    can: Annotated[
        list[str] | UnsetType, Meta(description="out of join, chat, publish, presence, history, call")
    ] = UNSET
    info: Annotated[Any | UnsetType, Meta(description="JSON that other members are shown")] = UNSET
    auto_join: Annotated[
        list[str] | UnsetType, Meta(description="rooms that its connections are in from their start")
    ] = UNSET
    ttl_seconds: Annotated[float, Meta(gt=0, le=366 * 86_400)] = 3600.0


class MintedToken(msgspec.Struct, frozen=True):
    """A client token."""

    token: str
    user_id: str
    expires_at: Annotated[int, Meta(description="Unix seconds")]
