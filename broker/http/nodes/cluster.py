"""All nodes that share an engine, and all workers of this machine, as one of them sees them."""

import attrs
import msgspec
import trio

from broker.http.nodes.asking import OthersAnswers, ask_others
from broker.http.nodes.merging import merge_states
from broker.http.nodes.questions import ALL, NodeAnswers, NodeQuestion, NodeReply, pack_question, parse_reply
from broker.http.nodes.states import NodeQuery, NodeState
from broker.http.services import HttpServices


@attrs.frozen
class ClusterView:
    """Gathers the state of all nodes."""

    services: HttpServices

    async def gather(self, query: NodeQuery) -> NodeState | None:
        """Return the state asked for, with a list of all nodes; None if no node of that name answers."""
        services = self.services
        asked = query if query.node else msgspec.structs.replace(query, node=services.node.name)
        others: list[OthersAnswers] = []

        async def ask() -> None:
            others.append(await ask_others(services, pack_question(NodeQuestion(asked))))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            own = await NodeAnswers(services).reply(asked)
        [answers] = others
        replies = _by_node([own, *filter(None, map(parse_reply, answers.packed))])
        state = _choose(asked, replies, services)
        if state is None:
            return None
        return msgspec.structs.replace(
            state, nodes=[reply.summary for reply in replies], silent_nodes=answers.silent
        )


def _by_node(replies: list[NodeReply]) -> list[NodeReply]:
    """Return one reply of each node, ordered by machine and worker; a worker may have replied on two ways."""
    found = {(reply.summary.name, reply.summary.started_ms): reply for reply in replies}
    return sorted(
        found.values(), key=lambda reply: (reply.summary.machine, reply.summary.worker, reply.summary.name)
    )


def _choose(query: NodeQuery, replies: list[NodeReply], services: HttpServices) -> NodeState | None:
    states = [reply.state for reply in replies if reply.state is not None]
    if query.node == ALL:
        members = sum(reply.summary.members for reply in replies)
        return merge_states(query, states, members=members, time_ms=int(services.wall_clock() * 1000))
    return states[0] if states else None
