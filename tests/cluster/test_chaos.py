"""Connections cut at random under load: everyone hears everything that was acknowledged, once, in one order."""

from random import Random

import pytest
import trio

from broker.model import Position
from broker.notices import Gap
from tests.cluster.nodes import Guest, Node, open_node
from tests.engine.redis.opened import wait_ready
from tests.support.redis import RedisServer
from tests.support.redis_proxy import Proxy, open_proxy

CUTS = 25
SPEAKERS = 4


def cut_something(proxy: Proxy, random: Random) -> None:
    """Cut a feed or a link, at once or in the middle of a reply, or let a feed die without a word."""
    match random.randrange(4):
        case 0:
            proxy.cut(proxy.feeds())
        case 1:
            proxy.cut(proxy.links())
        case 2:
            for route in proxy.routes:
                route.bytes_until_cut = random.randrange(200)
        case _:
            for route in proxy.feeds():
                route.is_mute = True


async def speak(node: Node, name: str, acknowledged: dict[str, Position], is_over: trio.Event) -> None:
    number = 0
    while not is_over.is_set():
        number += 1
        text = f"{name} {number}"
        published = await node.publish(text, text)
        position = published.receipt.position
        assert position is not None
        acknowledged[text] = position


@pytest.mark.parametrize("seed", range(3))
async def test_all_members_get_all_events_once_in_order_under_cut_links(
    redis: RedisServer, seed: int
) -> None:
    random = Random(seed)
    acknowledged: dict[str, Position] = {}
    async with (
        open_proxy(redis.port) as to_east,
        open_proxy(redis.port) as to_west,
        open_node(to_east.url) as east,
        open_node(to_west.url) as west,
        trio.open_nursery() as nursery,
    ):
        guests = [await node.enter(name) for node, name in ((east, "ann"), (west, "bob"), (west, "cas"))]
        is_over = trio.Event()
        for number in range(SPEAKERS):
            nursery.start_soon(speak, (east, west)[number % 2], f"speaker {number}", acknowledged, is_over)
        for _ in range(CUTS):
            spoken = len(acknowledged)
            cut_something(random.choice((to_east, to_west)), random)
            while len(acknowledged) < spoken + 5:  # noqa: ASYNC110  # whoever is served goes on
                await trio.sleep(0.005)
        is_over.set()
        while nursery.child_tasks:  # noqa: ASYNC110  # the last of them may still be asking again
            await trio.sleep(0.005)
        for node in (east, west):
            await wait_ready(node.engine)
        position = await east.engine.position("den")
        for guest in guests:
            await guest.wait(lambda guest=guest: guest.at == position)
        await check(east, guests, acknowledged)


async def check(node: Node, guests: list[Guest], acknowledged: dict[str, Position]) -> None:
    run = await node.engine.read("den")
    history = [event.content.decode() for event in run.events]
    assert len(history) == run.position.offset == len(acknowledged)
    for text, position in acknowledged.items():
        assert history[position.offset - 1] == text
    for guest in guests:
        assert guest.heard_of(Gap) == []
        assert guest.disconnects == []
        assert guest.texts() == history
