"""The questions that nodes ask each other, and their answers."""

import heapq
from math import inf
from typing import TypeAlias

import attrs
import msgspec
import trio

from broker.auth.revocations import Revocation
from broker.http.nodes.explaining import Explaining
from broker.http.nodes.node_view import COUNTED_PER_TURN, NodeView
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


class UsersQuestion(msgspec.Struct, frozen=True, tag="users"):
    """Asks every node for the connections of one user, or of the first users behind `after`."""

    user_id: str | None = None
    prefix: str = ""
    after: str = ""
    limit: int = 1


class UsersReply(msgspec.Struct, frozen=True):
    """The answer of a node: connections by user, and by room if it was asked for one user."""

    node: str
    started_ms: int
    counts: dict[str, int]
    rooms: dict[str, int] = {}


class BearersQuestion(msgspec.Struct, frozen=True, tag="bearers"):
    """Asks every node how many connections have a token that a revocation means."""

    key: str
    """See `Revocation.key`."""
    issued_before: float | None = None


class BearersReply(msgspec.Struct, frozen=True):
    """The answer of a node."""

    node: str
    started_ms: int
    count: int


class ExplainQuestion(msgspec.Struct, frozen=True, tag="explain"):
    """Asks every node what it knows of a user and a room."""

    user_id: str
    room: str


class NodeReply(msgspec.Struct, frozen=True):
    """The answer of a node."""

    summary: NodeSummary
    state: NodeState | None


Question: TypeAlias = MetricsQuestion | NodeQuestion | UsersQuestion | BearersQuestion | ExplainQuestion

_decoder: msgspec.json.Decoder[Question] = msgspec.json.Decoder(Question)
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
        if isinstance(question, UsersQuestion):
            return msgspec.json.encode(await self.users(question))
        if isinstance(question, BearersQuestion):
            return self.bearers(question)
        if isinstance(question, ExplainQuestion):
            explaining = Explaining(self.services)
            return msgspec.json.encode(explaining.explain_here(question.user_id, question.room))
        return msgspec.json.encode(await self.reply(question.query))

    def metrics(self) -> bytes:
        """Return the metrics of this worker."""
        return pack_metrics((self.services.metrics, self.services.requests.registry))

    def bearers(self, question: BearersQuestion) -> bytes:
        """Return how many connections of this node have such a token; nothing for a kind of a later version."""
        node = self.services.node
        try:
            revocation = Revocation.of_key(question.key, inf, question.issued_before)
        except ValueError:
            return b""
        count = len(self.services.connections.bearers(revocation))
        return msgspec.json.encode(BearersReply(node.name, node.started_ms, count))

    async def users(self, question: UsersQuestion) -> UsersReply:
        """Return the users of this node, without those who listen with the API key."""
        node, connections = self.services.node, self.services.connections
        rooms: dict[str, int] = {}
        if question.user_id is not None:
            found = [question.user_id]
            rooms = dict(connections.rooms_of(question.user_id))
        else:
            found = []
            for number, user_id in enumerate(connections.users(), 1):
                if user_id > question.after and user_id.startswith(question.prefix):
                    found.append(user_id)
                if number % COUNTED_PER_TURN == 0:
                    await trio.lowlevel.checkpoint()
            found = heapq.nsmallest(question.limit, found)
        counts = {user_id: connections.count_of(user_id) for user_id in found}
        return UsersReply(
            node.name, node.started_ms, {user: count for user, count in counts.items() if count}, rooms
        )

    async def reply(self, query: NodeQuery) -> NodeReply:
        """Return the answer of this node."""
        view, traffic = NodeView(self.services), self.services.traffic
        state, reasons = None, await view.obstacles()
        if query.node == ALL:
            state = await view.state(query, traffic.after((query.since + 1) * 1000), reasons)
        elif query.node == self.services.node.name:
            state = await view.state(query, traffic.since(query.since), reasons)
        return NodeReply(view.summary(reasons), state)
