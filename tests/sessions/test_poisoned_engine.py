"""No message and no close reason on a WebSocket holds the text of an engine's error."""

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock
from trio_websocket import ConnectionClosed

from tests.engine.poison import ERRORS, SECRETS, PoisonedEngine
from tests.support.node import OpenNode
from tests.support.peers import Client

REQUESTS = [
    {"type": "chat", "text": "x"},
    {"type": "publish", "event": "e", "data": 1},
    {"type": "publish", "event": "e", "data": 1, "ephemeral": True},
    {"type": "history"},
    {"type": "presence"},
    {"type": "join", "room": "new"},
    {"type": "join", "room": "lobby", "since": {"offset": 0, "epoch": "x"}},
    {"type": "leave", "room": "lobby"},
]


async def drain(client: Client) -> tuple[list[str], str]:
    """Return the texts that come until the connection ends or is silent, and the reason for its end."""
    texts: list[str] = []
    with trio.move_on_after(5):
        while True:
            try:
                texts.append(await client.connection.get_message())
            except ConnectionClosed as closed:
                return texts, str(closed.reason)
    return texts, ""


@pytest.mark.parametrize("make_error", ERRORS)
async def test_no_message_holds_the_text_of_an_engines_error(
    open_node: OpenNode, autojump_clock: MockClock, make_error: Callable[[], Exception]
) -> None:
    engines: list[PoisonedEngine] = []

    def make(clock: Callable[[], float]) -> PoisonedEngine:
        engines.append(PoisonedEngine(clock))
        return engines[-1]

    async with open_node(engine=make) as node:
        member = await node.member("ann", "lobby")
        engines[0].make_error = make_error
        heard: list[str] = []
        for number, request in enumerate(REQUESTS):
            try:
                await member.send(**request, id=number)
            except ConnectionClosed:
                break
            texts, reason = await drain(member)
            heard += (*texts, reason)
        latecomer = await node.client("bob", "other")
        texts, reason = await drain(latecomer)
        heard += (*texts, reason)
        assert any("error" in text for text in heard), "the engine failed"
        for text in heard:
            for secret in SECRETS:
                assert secret not in text
