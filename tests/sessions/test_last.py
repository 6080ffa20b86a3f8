"""The newest events with a join, over a whole connection in memory."""

from typing import Any

from trio.testing import MockClock

from broker.errors import CloseCode
from tests.support.node import OpenNode


def texts(joined: dict[str, Any]) -> list[str]:
    return [message["text"] for message in joined["messages"]]


async def test_a_join_brings_the_newest_events(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node(history={"page_messages": 3}) as node:
        ann = await node.member("ann", "den")
        for text in "12345":
            await ann.send(type="chat", text=text)
        await ann.settle()
        bob = await node.client("bob", target=node.target(token=node.token("bob")))
        joined = await bob.ask(type="join", room="den", last=2, since=None)
        assert (texts(joined), joined["offset"], joined["recovered"]) == (["4", "5"], 5, False)
        assert texts(await bob.ask(type="join", room="den", last=2**62)) == ["3", "4", "5"]
        assert texts(await bob.ask(type="join", room="den", last=None)) == []
        since = {"offset": 4, "epoch": joined["epoch"]}
        refused = {"type": "error", "code": "invalid_message", "id": "asked"}
        for fields in ({"since": since, "last": 1}, {"last": 0}, {"last": -1}, {"last": 1.5}, {"last": "2"}):
            answer = await bob.ask(type="join", room="other", **fields)
            assert answer | refused == answer
            assert answer["message"].startswith("last: ")
        assert (await bob.ask(type="leave", room="other"))["code"] == "not_in_room"


async def test_the_address_of_a_room_takes_it_too(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        ann = await node.member("ann", "den")
        for text in "123":
            await ann.send(type="chat", text=text)
        await ann.settle()
        bob = await node.client(target=node.target("den", token=node.token("bob"), extra="&last=2"))
        assert texts(await bob.receive()) == ["2", "3"]
        for extra in ("&last=0", "&last=x", "&last=-1", "&last=2&offset=1&epoch=e"):
            cas = await node.client(target=node.target("den", token=node.token("cas"), extra=extra))
            assert await cas.read_code() == CloseCode.FORBIDDEN


async def test_it_needs_history(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        mute = node.token("bob", can=["join"])
        bob = await node.client(target=node.target(token=mute))
        answer = await bob.ask(type="join", room="den", last=2)
        assert (answer["code"], "history" in answer["message"]) == ("forbidden", True)
        assert (await bob.ask(type="join", room="den"))["type"] == "joined"
        cas = await node.client(target=node.target("den", token=mute, extra="&last=2"))
        assert await cas.read_code() == CloseCode.FORBIDDEN
