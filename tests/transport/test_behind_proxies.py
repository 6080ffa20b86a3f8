"""Clients behind trusted proxies: limits and log lines by their own addresses, and nothing believed from others."""

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.transport.proxy_header import SIGNATURE
from tests.support.node import OpenNode
from tests.support.peers import RawPeer, handshake
from tests.transport.test_proxy_header import header

PROXY, OTHER_PROXY = "10.9.0.1", "10.9.0.2"
SERVER = {"trusted_proxies": ("10.9.0.0/24",)}


def forwarded(address: str) -> list[tuple[bytes, bytes]]:
    return [(b"X-Forwarded-For", address.encode())]


@pytest.mark.parametrize("with_header", [False, True])
async def test_clients_are_limited_by_their_own_address(
    open_node: OpenNode, autojump_clock: MockClock, with_header: bool
) -> None:
    server = {**SERVER, "proxy_protocol": with_header}
    async with open_node(server=server, limits={"connections_per_address": 2}) as node:

        async def connect(client: str) -> RawPeer:
            peer = RawPeer(node.dial(PROXY))
            lines = [] if with_header else [f"X-Forwarded-For: {client}"]
            await peer.send(
                (header(client, 4711) if with_header else b"")
                + handshake(node.target("lobby", token=node.token("ann")), *lines)
            )
            assert "101" in await peer.read_head()
            return peer

        first, _second = await connect("192.0.2.1"), await connect("192.0.2.1")
        assert await (await connect("192.0.2.1")).read_code() == 4129
        [refused] = node.refusals()
        assert (refused["why"], refused["address"]) == ("address_full", "192.0.2.1")
        for number in range(2, 12):
            await connect(f"192.0.2.{number}")
        await first.stream.aclose()
        await wait_all_tasks_blocked()
        again = await connect("192.0.2.1")
        assert (await again.read_message())["type"] == "joined"
    assert node.is_empty()


async def test_nobody_else_is_believed(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node(server=SERVER, limits={"connections_per_address": 1}) as node:
        await node.member("ann", "lobby", address="192.0.2.1", headers=forwarded("192.0.2.2"))
        client = await node.client("bob", address="192.0.2.1", headers=forwarded("192.0.2.3"))
        assert await client.read_code() == 4129
        assert node.refusals()[-1]["address"] == "192.0.2.1"


async def test_the_header_that_is_not_the_proxies_own_is_not_believed(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node(server={**SERVER, "forwarded_header": "forwarded"}) as node:
        headers = [*forwarded("192.0.2.2"), (b"Forwarded", b"for=192.0.2.3")]
        client = await node.client(address=PROXY, headers=headers)
        assert await client.read_code() == 4001
        assert node.refusals()[-1]["address"] == "192.0.2.3"


async def test_a_proxy_may_have_as_many_connections_as_the_node(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node(server=SERVER, limits={"connections_per_address": 1, "connections": 5}) as node:
        for number in range(5):
            await node.member(f"user{number}", "lobby", address=PROXY)
        peer = RawPeer(node.dial(OTHER_PROXY))
        assert "503" in await peer.read_head()
    assert node.is_empty()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02",
        SIGNATURE + b"\x11\x11\x00\x00",
        SIGNATURE[:-2],
    ],
)
async def test_a_connection_of_a_proxy_without_its_header_is_closed_and_noted(
    open_node: OpenNode, autojump_clock: MockClock, data: bytes
) -> None:
    async with open_node(server={**SERVER, "proxy_protocol": True}) as node:
        peer = RawPeer(node.dial(PROXY))
        await peer.send(data)
        await peer.stream.send_eof()
        assert await peer.read_eof() == b""
        [line] = node.refusals()
        assert (line["why"], line["address"]) == ("proxy_header", PROXY)
    assert node.is_empty()


async def test_others_speak_without_the_header_and_must_not_send_one(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node(server={**SERVER, "proxy_protocol": True}) as node:
        peer = RawPeer(node.dial("192.0.2.1"))
        await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await peer.read_eof()).startswith(b"http:")
        peer = RawPeer(node.dial("192.0.2.1"))
        await peer.send(header("192.0.2.9", 1) + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert "400" in await peer.read_head()


async def test_health_checks_of_a_proxy_are_its_own(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node(server={**SERVER, "proxy_protocol": True}) as node:
        peer = RawPeer(node.dial(PROXY))
        await peer.send(SIGNATURE + b"\x20\x00\x00\x00" + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await peer.read_eof()).startswith(b"http:")
        silent = RawPeer(node.dial(PROXY))
        await silent.stream.send_eof()
        assert await silent.read_eof() == b""
        assert node.refusals() == []


async def test_behind_two_proxies_the_first_address_that_is_none_counts(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node(server={**SERVER, "proxy_protocol": True}) as node:
        peer = RawPeer(node.dial(PROXY))
        request = handshake(node.target("lobby"), "X-Forwarded-For: 1.2.3.4, 192.0.2.7")
        await peer.send(header(OTHER_PROXY, 4711) + request)
        assert "101" in await peer.read_head()
        assert await peer.read_code() == 4001
        assert node.refusals()[-1]["address"] == "192.0.2.7"
