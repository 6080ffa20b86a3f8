"""What the fast lane must not loosen: the same limits and the same order, however many messages come at once."""

import pytest
from trio.testing import MockClock

from tests.transport.conftest import OpenNode
from tests.transport.peers import text_of


@pytest.mark.parametrize("kind", ["history", "presence"])
async def test_who_asks_for_many_large_answers_at_once_gets_them_as_they_are_read(
    open_node: OpenNode, autojump_clock: MockClock, kind: str
) -> None:
    async with open_node(websocket={"outbox_bytes": 10_000}) as node:
        eve = await node.member("eve", "lobby")
        for number in range(20):
            await eve.ask(type="chat", text="x" * 100, id=number)
            await node.member("a" * 100 + str(number), "lobby")
        peer = await node.raw_peer(node.target("lobby", token=node.token("ann")))
        assert (await peer.read_message())["type"] == "joined"
        await peer.send(text_of(type=kind) * 100)
        answers = 0
        while answers < 100:
            answers += (await peer.read_message())["type"] == kind
