"""The connections with a token that is taken back, over all nodes and workers."""

import attrs
import msgspec

from broker.auth.revocations import Revocation
from broker.http.nodes.asking import ask_others
from broker.http.nodes.questions import BearersQuestion, BearersReply, NodeAnswers, pack_question
from broker.http.services import HttpServices

_replies = msgspec.json.Decoder(BearersReply)


@attrs.frozen
class Bearers:
    """The number of connections. `silent_nodes` did not answer: it is without theirs."""

    count: int
    silent_nodes: int


async def count_bearers(services: HttpServices, revocation: Revocation) -> Bearers:
    """Return how many connections of all nodes have a token that the revocation means."""
    question = BearersQuestion(revocation.key, revocation.issued_before)
    others = await ask_others(services, pack_question(question))
    # The own reply goes through the same form. A worker may have answered in two ways.
    counts: dict[tuple[str, int], int] = {}
    for packed in [*others.packed, NodeAnswers(services).bearers(question)]:
        try:
            reply = _replies.decode(packed)
        except msgspec.MsgspecError:
            # From another version.
            others.silent += 1
        else:
            counts[reply.node, reply.started_ms] = reply.count
    return Bearers(sum(counts.values()), others.silent)
