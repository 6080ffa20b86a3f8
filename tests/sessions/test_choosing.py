"""Tags, filters and events without echo, over whole connections in memory."""

from typing import Any
from urllib.parse import quote

import pytest
from trio.testing import MockClock

from broker.errors import CloseCode
from tests.support.node import OpenNode

TEXT = "x" * 64


def said(messages: list[dict[str, Any]]) -> list[Any]:
    """Return the texts and data of events, and the ranges of those withheld."""
    return [
        (message["from"], message["offset"])
        if message["type"] == "withheld"
        else message.get("text", message.get("data"))
        for message in messages
        if message["type"] in {"chat", "event", "withheld"}
    ]


async def test_an_event_without_echo_goes_to_all_but_the_connection_that_says_it(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        ann, other = await node.member("ann", "den"), await node.member("ann", "den")
        bob = await node.member("bob", "den")
        ack = await ann.ask(type="chat", text="1", echo=False)
        assert (ack["type"], ack["offset"]) == ("ack", 1)
        for message in (
            {"type": "publish", "event": "e", "data": 2, "echo": False},
            {"type": "publish", "event": "e", "data": "typing", "echo": False, "ephemeral": True},
            {"type": "chat", "text": "3", "echo": True},
        ):
            await ann.send(**message)
        heard = await ann.settle()
        assert said(heard) in ([(2, 2), "3"], [(1, 1), (2, 2), "3"])
        for peer in (other, bob):
            assert said(await peer.settle()) == ["1", 2, "typing", "3"]
        # Another connection of the user recovers it.
        again = await node.client("ann", target=node.target(token=node.token("ann")))
        since = {"offset": 0, "epoch": ack["epoch"]}
        joined = await again.ask(type="join", room="den", since=since)
        assert (said(joined["messages"]), joined["recovered"]) == (["1", 2, "3"], True)
        joined = await ann.ask(type="join", room="den", since=since)
        assert said(joined["messages"]) == [(1, 1), (2, 2), "3"]
        history = await ann.ask(type="history", room="den")
        assert said(history["messages"]) == [(1, 1), (2, 2), "3"]


async def test_a_filter_of_a_join_selects_events_by_their_tags(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        ann = await node.member("ann", "den")
        wanted = {"kind": ["goal", "card"]}
        bob = await node.client("bob", target=node.target(token=node.token("bob")))
        await bob.ask(type="join", room="den", tags=wanted)
        extra = "&tags=" + quote('{"kind":["goal","card"]}')
        cas = await node.client(target=node.target("den", token=node.token("cas"), extra=extra))
        await cas.receive_type("joined")
        await ann.settle()
        for text, tags in (
            ("1", {}),
            ("2", {"kind": "goal", "team": "home"}),
            ("3", None),
            ("4", {"kind": "corner"}),
        ):
            await ann.send(type="chat", text=text, tags=tags)
        await ann.send(type="publish", event="e", data="card", tags={"kind": "card"})
        own = [message for message in await ann.settle() if message["type"] in {"chat", "event"}]
        tags = [message.get("tags") for message in own]
        assert tags == [None, {"kind": "goal", "team": "home"}, None, {"kind": "corner"}, {"kind": "card"}]
        for peer in (bob, cas):
            assert said(await peer.settle()) == [(1, 1), "2", (3, 4), "card"]
        joined = await bob.ask(type="join", room="den", tags=wanted, last=1)
        assert (said(joined["messages"]), joined["offset"]) == (["card"], 5)
        joined = await bob.ask(type="join", room="den", tags={}, last=5)
        assert said(joined["messages"]) == ["1", "2", "3", "4", "card"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tags", {"": "x"}),
        ("tags", {"kind": ""}),
        ("tags", {TEXT + "x": "x"}),
        ("tags", {"kind": TEXT + "x"}),
        ("tags", {str(number): "x" for number in range(9)}),
        ("tags", {"kind": 1}),
        ("tags", {"kind": ["x"]}),
        ("tags", ["kind"]),
        ("tags", "kind"),
        ("echo", 0),
        ("echo", None),
    ],
)
async def test_tags_beyond_their_limits_are_refused_by_name(
    open_node: OpenNode, autojump_clock: MockClock, field: str, value: object
) -> None:
    async with open_node() as node:
        ann = await node.member("ann", "den")
        for message in ({"type": "chat", "text": "t"}, {"type": "publish", "event": "e", "data": 1}):
            answer = await ann.ask(**message, **{field: value})
            assert (answer["code"], answer["message"].startswith(field)) == ("invalid_message", True), answer


@pytest.mark.parametrize(
    "tags",
    [
        {"": ["x"]},
        {"kind": []},
        {"kind": ["x"] * 33},
        {"kind": [""]},
        {"kind": [TEXT + "x"]},
        {TEXT + "x": ["x"]},
        {str(number): ["x"] for number in range(9)},
        {"kind": "goal"},
        {"kind": [None]},
        ["kind"],
    ],
)
async def test_filters_beyond_their_limits_are_refused_by_name(
    open_node: OpenNode, autojump_clock: MockClock, tags: object
) -> None:
    async with open_node() as node:
        ann = await node.client("ann", target=node.target(token=node.token("ann")))
        answer = await ann.ask(type="join", room="den", tags=tags)
        assert (answer["code"], answer["message"].startswith("tags")) == ("invalid_message", True), answer
        most = {TEXT[:-1] + str(number): [TEXT[:-2] + f"{n:02}" for n in range(32)] for number in range(8)}
        assert (await ann.ask(type="join", room="den", tags=most))["type"] == "joined"


@pytest.mark.parametrize("text", ["", "{", "1", '{"kind":"goal"}', '{"kind":[]}', '{"kind":["\\ud800"]}'])
async def test_a_filter_in_the_address_that_is_refused_closes_the_connection(
    open_node: OpenNode, autojump_clock: MockClock, text: str
) -> None:
    async with open_node() as node:
        target = node.target("den", token=node.token("ann"), extra=f"&tags={quote(text)}")
        ann = await node.client(target=target)
        if text:
            assert await ann.read_code() == CloseCode.FORBIDDEN
        else:
            assert (await ann.receive())["type"] == "joined", "an empty parameter is as none"


async def test_the_most_tags_that_are_allowed_are_carried(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        ann = await node.member("ann", "den")
        tags = {TEXT[:-1] + str(number): TEXT for number in range(8)}
        await ann.send(type="chat", text="x", tags=tags)
        assert (await ann.receive_type("chat"))["tags"] == tags
