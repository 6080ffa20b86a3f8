"""How many nodes and Redis servers so many connections would need: a projection from measured costs. Pure."""

import math
from collections.abc import Iterator, Sequence

import attrs

NODE_MEMORY, NODE_CPU, REDIS_CPU = "memory of the nodes", "CPU of the nodes", "CPU of Redis"


@attrs.frozen
class Costs:
    """Measured costs, each on one core of one machine.

    Microseconds of a node's CPU: `publish_us` to accept a message, store it and receive it from the feed, `receive_us`
    to receive one from another node, `delivery_us` for each member that it is written to. Microseconds of Redis' CPU:
    `redis_us` for a message with one subscribed node, `subscriber_us` for each further one.
    """

    member_kib: float
    publish_us: float
    receive_us: float
    delivery_us: float
    redis_us: float
    subscriber_us: float
    redis_commands: float


@attrs.frozen
class Assumptions:
    """The assumptions of the projection; rooms are spread evenly over Redis servers, members over nodes."""

    room_members: int = 100
    room_messages_per_second: float = 1.0
    node_gib: float = 4.0
    busy_share: float = 0.6
    """Of one core, beyond which neither a node nor a Redis is to be loaded."""


@attrs.frozen
class Projection:
    """The resources that a number of connections would need."""

    connections: int
    messages_per_second: float
    deliveries_per_second: float
    nodes_for_memory: int
    nodes_for_cpu: int
    nodes_per_room: float
    redis_commands_per_second: float
    redis_cores: float
    redis_servers: int

    @property
    def nodes(self) -> int:
        """Return how many nodes it takes, of one core each."""
        return max(self.nodes_for_memory, self.nodes_for_cpu)

    @property
    def bottleneck(self) -> str:
        """Return what is full first: what has to be had most often."""
        needs = {
            NODE_CPU: self.nodes_for_cpu,
            NODE_MEMORY: self.nodes_for_memory,
            REDIS_CPU: self.redis_servers,
        }
        return max(needs, key=lambda name: needs[name])


def nodes_per_room(nodes: int, members: int) -> float:
    """Return on how many nodes a room is to be expected, if each member is on any of them by chance."""
    return nodes * (1.0 - (1.0 - 1.0 / nodes) ** members)


def project(connections: int, costs: Costs, assumed: Assumptions) -> Projection:
    """Return what so many connections would need."""
    messages = connections / assumed.room_members * assumed.room_messages_per_second
    deliveries = messages * assumed.room_members
    for_memory = math.ceil(connections * costs.member_kib / (assumed.node_gib * 2**20))
    for_cpu = _nodes_for_cpu(messages, deliveries, costs, assumed)
    spread = nodes_per_room(max(for_memory, for_cpu), assumed.room_members)
    redis_cores = messages * (costs.redis_us + (spread - 1.0) * costs.subscriber_us) / 1e6
    return Projection(
        connections=connections,
        messages_per_second=messages,
        deliveries_per_second=deliveries,
        nodes_for_memory=for_memory,
        nodes_for_cpu=for_cpu,
        nodes_per_room=spread,
        redis_commands_per_second=messages * costs.redis_commands,
        redis_cores=redis_cores,
        redis_servers=max(1, math.ceil(redis_cores / assumed.busy_share)),
    )


def _nodes_for_cpu(messages: float, deliveries: float, costs: Costs, assumed: Assumptions) -> int:
    """Return the fewest nodes among which the work can be shared; more nodes also make more work."""

    def is_enough(nodes: int) -> bool:
        heard = nodes_per_room(nodes, assumed.room_members) - 1.0
        work_us = messages * (costs.publish_us + heard * costs.receive_us) + deliveries * costs.delivery_us
        return work_us / 1e6 <= nodes * assumed.busy_share

    few, many = 0, 1
    while not is_enough(many):
        few, many = many, many * 2
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if is_enough(middle) else (middle, many)
    return many


def most_connections(costs: Costs, assumed: Assumptions, *, nodes: int | None, redis: int) -> int:
    """Return the most connections that so many Redis servers hold, and so many nodes if that is not None."""

    def fits(connections: int) -> bool:
        needed = project(connections, costs, assumed)
        return needed.redis_servers <= redis and (nodes is None or needed.nodes <= nodes)

    low, high = 0, assumed.room_members
    while fits(high) and high < 1 << 40:
        low, high = high, high * 2
    while high - low > assumed.room_members:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def markdown(connections: Sequence[int], costs: Costs, assumed: Assumptions) -> Iterator[str]:
    """Yield the table, with what it comes from, as lines of Markdown."""
    a, c = assumed, costs
    yield "**Projection**, computed from the figures of `python -m bench cluster`; nothing of this size was run."
    yield ""
    yield (
        f"Assumed: rooms of {a.room_members}, in each {a.room_messages_per_second:g} message a second; members on any "
        f"node by chance; a node is one process on one core with {a.node_gib:g} GiB for its members; neither a node "
        f"nor a Redis is loaded beyond {a.busy_share:.0%} of a core."
    )
    yield ""
    yield (
        "| connections | messages/s | deliveries/s | nodes for memory | nodes for CPU | nodes that hear a message "
        "| Redis commands/s | Redis cores | Redis servers | full first |"
    )
    yield "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
    for count in connections:
        p = project(count, costs, assumed)
        yield (
            f"| {count:,} | {p.messages_per_second:,.0f} | {p.deliveries_per_second:,.0f} | {p.nodes_for_memory:,} "
            f"| {p.nodes_for_cpu:,} | {p.nodes_per_room:,.1f} | {p.redis_commands_per_second:,.0f} "
            f"| {p.redis_cores:.2f} | {p.redis_servers:,} | {p.bottleneck} |"
        )
    one_node = most_connections(costs, assumed, nodes=1, redis=1 << 30)
    full = project(2 * one_node, costs, assumed)
    filled = NODE_MEMORY if full.nodes_for_memory > full.nodes_for_cpu else NODE_CPU
    one_redis = most_connections(costs, assumed, nodes=None, redis=1)
    yield ""
    yield (
        f"One node is full at {one_node:,} connections ({filled} first), one Redis at {one_redis:,} with as many "
        "nodes as those need."
    )
    yield ""
    yield (
        f"Measured: memory {c.member_kib:.1f} KiB a member; node CPU: p = {c.publish_us:.1f} µs a publish, "
        f"r = {c.receive_us:.1f} µs to hear of one from another node, d = {c.delivery_us:.2f} µs a delivery; Redis: "
        f"q = {c.redis_us:.1f} µs a publish and s = {c.subscriber_us:.1f} µs for each further node that hears it, "
        f"{c.redis_commands:.1f} commands a publish, those inside its script included."
    )
    yield ""
    yield "With C connections, S members of a room and m messages a second in each, n nodes and the share u of a core:"
    yield ""
    yield "- messages `M = C * m / S`, deliveries `D = M * S`, nodes that hear a message `k = n * (1 - (1 - 1/n) ** S)`"
    yield "- nodes for memory: `C * KiB a member / memory of a node`"
    yield "- nodes for CPU: the least `n` with `M * (p + (k - 1) * r) + D * d <= n * u`"
    yield "- Redis servers: `M * (q + (k - 1) * s) / u`; rooms are spread over them by name"
