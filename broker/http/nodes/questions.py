"""The questions that nodes ask each other, and their answers."""

from typing import TypeAlias

import attrs
import msgspec

from broker.http.nodes.node_view import NodeView
from broker.http.nodes.scrape import pack_metrics
from broker.http.nodes.states import NodeQuery, NodeState, NodeSummary
from broker.http.services import HttpServices

ALL = "all"
"""Instead of a node's name: all of them together."""


class MetricsQuestion(msgspec.Struct, frozen=True, tag="metrics"):
    """Asks for the metrics of a worker."""


class NodeQuestion(msgspec.Struct, frozen=True, tag="node"):
    """Asks every node for its summary, and the one named in the query for its state too."""

    query: NodeQuery
    """Without a `node`, no state is asked for. For ALL, `since` is a Unix second."""


class NodeReply(msgspec.Struct, frozen=True):
    """The answer of a node."""

    summary: NodeSummary
    state: NodeState | None


Question: TypeAlias = MetricsQuestion | NodeQuestion

_decoder: msgspec.json.Decoder[Question] = msgspec.json.Decoder(MetricsQuestion | NodeQuestion)
_replies = msgspec.json.Decoder(NodeReply)


def pack_question(question: Question) -> bytes:
    """Encode a question."""
    return msgspec.json.encode(question)


def parse_reply(packed: bytes) -> NodeReply | None:
    """Decode the answer to a NodeQuestion; None if it cannot be read, as from another version."""
    try:
        return _replies.decode(packed)
    except msgspec.MsgspecError:
        return None


@attrs.frozen
class NodeAnswers:
    """Answers for this node."""

    services: HttpServices

    async def answer(self, packed: bytes) -> bytes:
        """Answer a question; with nothing if it cannot be read, as from another version."""
        try:
            question = _decoder.decode(packed)
        except msgspec.MsgspecError:
            return b""
        if isinstance(question, MetricsQuestion):
            return self.metrics()
        return msgspec.json.encode(await self.reply(question.query))

    def metrics(self) -> bytes:
        """Return the metrics of this worker."""
        return pack_metrics((self.services.metrics, self.services.requests.registry))

    async def reply(self, query: NodeQuery) -> NodeReply:
        """Return the answer of this node."""
        view, traffic = NodeView(self.services), self.services.traffic
        state, reasons = None, await view.obstacles()
        if query.node == ALL:
            state = await view.state(query, traffic.after((query.since + 1) * 1000), reasons)
        elif query.node == self.services.node.name:
            state = await view.state(query, traffic.since(query.since), reasons)
        return NodeReply(view.summary(reasons), state)
