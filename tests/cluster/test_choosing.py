"""Filters and exclusions hold on every node, as the header of an event goes with it through Redis."""

from actors import Reply
from broker.model import Draft, EventHeader, Excluded, Shown, TagFilter
from broker.notices import RoomEvent, Withheld
from broker.rooms.messages import Join
from tests.cluster.nodes import Guest, Node, open_node
from tests.support.redis import RedisServer

GOAL = (("kind", "goal"),)


async def enter(node: Node, user_id: str, connection: str, wanted: TagFilter | None = None) -> Guest:
    guest = Guest(user_id)
    guest.shown = Shown(user_id, connection)
    reply: Reply[None] = Reply()
    ref = await node.rooms.tell("den", Join(guest, None, None, reply, wanted=wanted))
    await ref.wait_reply(reply)
    return guest


async def test_all_nodes_keep_events_from_those_that_are_excluded_and_by_filters(redis: RedisServer) -> None:
    async with open_node(redis.url) as east, open_node(redis.url) as west:
        guests = {
            (node is west, user, number): await enter(node, user, f"{user}-{number}")
            for number, node in enumerate((east, west))
            for user in ("ann", "bob")
        }
        followers = [
            await enter(node, "cas", "cas-0", TagFilter.of({"kind": ["goal"]})) for node in (east, west)
        ]
        for number in range(12):
            node = (east, west)[number % 2]
            excluded = (None, Excluded("ann-0"), Excluded(user_id="bob"))[number % 3]
            header = EventHeader("chat", tags=GOAL if number % 4 == 0 else (), excluded=excluded)
            await node.rooms.publish("den", Draft(str(number + 1).encode(), header=header))
        await east.rooms.publish("den", Draft(b"end", header=EventHeader("chat", tags=GOAL)))
        for (_, user, number), guest in guests.items():
            without = (
                {2, 5, 8, 11} if (user, number) == ("ann", 0) else {3, 6, 9, 12} if user == "bob" else set()
            )
            await guest.wait(lambda guest=guest: "end" in guest.texts())
            assert guest.texts() == [str(n) for n in range(1, 13) if n not in without] + ["end"]
            told = [(notice.first, notice.offset) for notice in guest.heard_of(Withheld)]
            assert told == [(n, n) for n in sorted(without)]
        for follower in followers:
            await follower.wait(lambda follower=follower: "end" in follower.texts())
            assert follower.texts() == ["1", "5", "9", "end"]
            told = [(notice.first, notice.offset) for notice in follower.heard_of(Withheld)]
            assert told == [(2, 4), (6, 8), (10, 12)]
            assert [event.event.offset for event in follower.heard_of(RoomEvent)] == [1, 5, 9, 13]
