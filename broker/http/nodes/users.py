"""The users with open connections, over all nodes and workers."""

import heapq
from collections import Counter

import attrs
import msgspec
import trio

from broker.http.nodes.asking import ask_others
from broker.http.nodes.questions import NodeAnswers, UsersQuestion, UsersReply, pack_question
from broker.http.services import HttpServices

_replies = msgspec.json.Decoder(UsersReply)


@attrs.frozen
class OnlineUsers:
    """Users and the numbers of their connections. `silent_nodes` did not answer: the numbers are without theirs."""

    counts: list[tuple[str, int]]
    silent_nodes: int
    rooms: list[tuple[str, int]]
    """Of one user, the rooms by name, with the numbers of connections in them."""


async def find_online_users(services: HttpServices, question: UsersQuestion) -> OnlineUsers:
    """Return the users asked for, in the order of their ids, those of all nodes together."""
    packed_question = pack_question(question)
    others = await ask_others(services, packed_question)
    # The own reply goes through the same form.
    packed = [*others.packed, await NodeAnswers(services).answer(packed_question)]
    replies: dict[tuple[str, int], UsersReply] = {}
    for each in packed:
        try:
            reply = _replies.decode(each)
        except msgspec.MsgspecError:
            # From another version.
            others.silent += 1
        else:
            replies[reply.node, reply.started_ms] = reply
        await trio.lowlevel.checkpoint()
    counts: Counter[str] = Counter()
    rooms: Counter[str] = Counter()
    for reply in replies.values():
        counts.update(reply.counts)
        rooms.update(reply.rooms)
    first = heapq.nsmallest(question.limit, counts)
    return OnlineUsers(
        [(user_id, counts[user_id]) for user_id in first], others.silent, sorted(rooms.items())
    )
