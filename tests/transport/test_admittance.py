"""Admittance of connections, and the answers to refused ones."""

import pytest
import trio
from trio.testing import MockClock

from broker.errors import CloseCode
from broker.model import Position
from broker.transport.connection import Destination, parse_destination
from tests.support.node import OpenNode
from tests.support.peers import RawPeer, handshake


async def test_a_token_in_the_query(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        client = await node.client(target=f"/ws/lobby?token={node.token('ann')}")
        assert (await client.receive())["type"] == "joined"


async def test_a_token_in_the_authorization_header(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        header = (b"Authorization", f"Bearer {node.token('ann')}".encode())
        client = await node.client(target="/ws/lobby", headers=[header])
        assert (await client.receive())["type"] == "joined"


async def test_a_token_among_the_subprotocols(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        offers = [f"bearer.{node.token('ann')}", "greenroom.v1"]
        client = await node.client(target="/ws/lobby", subprotocols=offers)
        assert client.connection.subprotocol == "greenroom.v1"
        assert (await client.receive())["type"] == "joined"


@pytest.mark.parametrize("offers", [[], ["other.v1"]])
async def test_no_other_subprotocol_is_selected(
    open_node: OpenNode, autojump_clock: MockClock, offers: list[str]
) -> None:
    async with open_node() as node:
        target = node.target("lobby", token=node.token("ann"))
        client = await node.client(target=target, subprotocols=offers)
        assert client.connection.subprotocol is None


UNAUTHORIZED = {
    "no token": lambda node: "/ws/lobby",
    "no token and no room": lambda node: "/ws",
    "rubbish": lambda node: "/ws/lobby?token=x",
    "another's signature": lambda node: f"/ws/lobby?token={node.token('ann')[:-4]}AAAA",
    "two tokens": lambda node: f"/ws/lobby?token={node.token('ann')}&token={node.token('bob')}",
    "expired": lambda node: f"/ws/lobby?token={node.token('ann', ttl_seconds=10)}",
}


@pytest.mark.parametrize("case", UNAUTHORIZED)
async def test_who_is_not_let_in_gets_4001_after_a_whole_handshake(
    open_node: OpenNode, autojump_clock: MockClock, case: str
) -> None:
    async with open_node() as node:
        target = UNAUTHORIZED[case](node)
        await trio.sleep(20)
        peer = await node.raw_peer(target, "Sec-WebSocket-Protocol: greenroom.v1")
        close = await peer.read_close()
        assert close is not None
        assert close[0] == CloseCode.UNAUTHORIZED
        assert "token" in close[1]
        assert node.log_lines() == []


async def test_the_subprotocol_is_selected_also_when_refusing(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    # Else a browser reports 1006, and its page tries again for ever.
    async with open_node() as node:
        client = await node.client(target="/ws/lobby", subprotocols=["greenroom.v1", "bearer.x"])
        assert client.connection.subprotocol == "greenroom.v1"
        assert await client.read_code() == CloseCode.UNAUTHORIZED


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        ("https://app.example", True),
        ("https://app.example.evil", False),
        ("null", False),
        ("http://app.example", False),
        (None, True),
    ],
)
async def test_origins_not_on_the_list_get_4003(
    open_node: OpenNode, autojump_clock: MockClock, origin: str | None, is_allowed: bool
) -> None:
    async with open_node(websocket={"allowed_origins": ("https://app.example",)}) as node:
        headers = [] if origin is None else [(b"Origin", origin.encode())]
        client = await node.client("ann", "lobby", headers=headers)
        if is_allowed:
            assert (await client.receive())["type"] == "joined"
        else:
            assert await client.read_code() == CloseCode.FORBIDDEN


async def test_any_origin_is_let_in_by_default(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        client = await node.client("ann", "lobby", headers=[(b"Origin", b"https://anywhere")])
        assert (await client.receive())["type"] == "joined"


async def test_one_connection_more_than_a_user_may_have(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node(limits={"connections_per_user": 2}) as node:
        first = await node.member("ann", "lobby")
        await node.member("ann", "lobby")
        third = await node.client("ann", "lobby")
        assert await third.read_to_end() == ([], CloseCode.TOO_MANY)
        assert await node.client("bob", "lobby")
        await first.aclose()
        await trio.sleep(2)
        assert (await (await node.client("ann", "lobby")).receive())["type"] == "joined"


async def test_one_connection_more_than_an_address_may_have(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node(limits={"connections_per_address": 1}) as node:
        first = await node.member("ann", "lobby")
        second = await node.client("bob", "lobby")
        assert await second.read_to_end() == ([], CloseCode.TOO_MANY)
        assert (await (await node.client("bob", "lobby", address="10.0.0.2")).receive())["type"] == "joined"
        await first.aclose()
        await trio.sleep(2)
        assert (await (await node.client("bob", "lobby")).receive())["type"] == "joined"


async def test_a_draining_server_sends_newcomers_elsewhere(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        node.begin_drain()
        client = await node.client("ann", "lobby")
        assert await client.read_to_end() == ([], CloseCode.SERVICE_RESTART)
        assert node.rooms.statistics().rooms == 0


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/ws", "", Destination(None, None)),
        ("/ws/", "token=x", Destination(None, None)),
        ("/ws/lobby", "", Destination("lobby", None)),
        ("/ws/a%20b%C3%A9", "", Destination("a b\xe9", None)),
        ("/ws/a%2Fb", "", Destination("a/b", None)),
        ("/ws/%FF", "", Destination("\udcff", None)),
        ("/ws/lobby", "offset=7&epoch=abc", Destination("lobby", Position("abc", 7))),
        ("/ws/lobby", "offset=0", Destination("lobby", Position("", 0))),
        ("/ws/lobby", "epoch=abc", Destination("lobby", None)),
        ("/ws/lobby", "offset=-7&epoch=abc", Destination("lobby", None)),
        ("/ws/lobby", "offset=%D9%A1&epoch=abc", Destination("lobby", None)),
        ("/ws/lobby", "offset=" + "9" * 30, Destination("lobby", None)),
        ("/wss", "", None),
        ("/", "", None),
        ("/api/ws/lobby", "", None),
    ],
)
def test_where_a_request_wants_to_go(path: str, query: str, expected: Destination | None) -> None:
    assert parse_destination(path, query) == expected


@pytest.mark.parametrize("room", ["a/b", "x" * 129, "a\nb", "\x7f"])
async def test_a_home_that_cannot_be_a_room_gets_4003(
    open_node: OpenNode, autojump_clock: MockClock, room: str
) -> None:
    async with open_node() as node:
        client = await node.client("ann", room)
        assert await client.read_code() == CloseCode.FORBIDDEN


async def test_a_home_that_is_no_utf8_gets_4003(open_node: OpenNode, autojump_clock: MockClock) -> None:
    async with open_node() as node:
        client = await node.client(target=f"/ws/%FF?token={node.token('ann')}")
        assert await client.read_code() == CloseCode.FORBIDDEN


BAD_HANDSHAKES = {
    "another method": handshake("/ws/lobby").replace(b"GET", b"POST"),
    "no key": handshake("/ws/lobby").replace(b"Sec-WebSocket-Key", b"X"),
    "no host": handshake("/ws/lobby").replace(b"Host", b"X"),
    "no version": handshake("/ws/lobby").replace(b"Sec-WebSocket-Version", b"X"),
    "no connection header": handshake("/ws/lobby").replace(b"Connection", b"X"),
    "a header that is none": handshake("/ws/lobby", "no colon here"),
    "a host that is none": handshake("/ws/lobby").replace(b"example.org", b"\xff"),
    "content": handshake("/ws/lobby", "Content-Length: 5") + b"hello",
    "content in chunks": handshake("/ws/lobby", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "a key that is none": handshake("/ws/lobby").replace(b"dGhl", b"!!!!"),
    "a key that is too short": handshake("/ws/lobby").replace(b"dGhl", b""),
    "two keys": handshake("/ws/lobby", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
    "two versions": handshake("/ws/lobby", "Sec-WebSocket-Version: 13"),
    "two hosts": handshake("/ws/lobby", "Host: example.org"),
    "subprotocols that are none": handshake("/ws/lobby", "Sec-WebSocket-Protocol: \xff"),
    "extensions that are none": handshake("/ws/lobby", "Sec-WebSocket-Extensions: \xff"),
    "subprotocols that are none, behind a bare line feed": handshake(
        "/ws/lobby", "X: y\nSec-WebSocket-Protocol: \xff"
    ),
    "a header that is continued": handshake("/ws/lobby", "Sec-WebSocket-Protocol: a", " b"),
    "connection tokens that are none": handshake("/ws/lobby").replace(b": Upgrade", b": Upgrade, \xff"),
}


@pytest.mark.parametrize("case", BAD_HANDSHAKES)
async def test_a_bad_handshake_is_answered_with_400(
    open_node: OpenNode, autojump_clock: MockClock, case: str
) -> None:
    async with open_node() as node:
        peer = RawPeer(node.dial())
        started = trio.current_time()
        await peer.send(BAD_HANDSHAKES[case])
        assert (await peer.read_eof()).startswith(b"HTTP/1.1 400 ")
        assert trio.current_time() == started, "at once"
        await trio.sleep(5)
        assert node.is_empty()
        assert not [line for line in node.log_lines() if line["level"] == "error"]


@pytest.mark.parametrize(
    "host",
    [
        "xn--strae-oqa.de",
        "xn--a",
        "xn--" + "a" * 70,
        "a" * 300,
        "a..b",
        "[::1]:8000",
        "a_b:1",
        "",
        "%C3%A9",
        "a." * 7000,
    ],
    ids=lambda host: host[:16] or "empty",
)
async def test_the_host_decides_nothing(open_node: OpenNode, autojump_clock: MockClock, host: str) -> None:
    """It is not decoded: IDNA 2003 knows fewer names than there are, and takes quadratic time."""
    async with open_node() as node:
        peer = RawPeer(node.dial())
        target = node.target("lobby", token=node.token("ann"))
        await peer.send(handshake(target).replace(b"example.org", host.encode()))
        assert "101" in await peer.read_head()
        assert (await peer.read_message())["type"] == "joined"


async def test_lines_may_end_in_a_bare_line_feed_and_are_read_all_the_same(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node(websocket={"allowed_origins": ("https://app.example",)}) as node:
        for origin, code in [("https://app.example", CloseCode.UNAUTHORIZED), ("null", CloseCode.FORBIDDEN)]:
            peer = await node.raw_peer("/ws/lobby", f"X: y\nOrigin: {origin}\nZ: z")
            assert await peer.read_code() == code


async def test_another_version_of_the_protocol_is_told_which_one_is_spoken(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        peer = RawPeer(node.dial())
        await peer.send(handshake("/ws/lobby").replace(b": 13", b": 8"))
        answer = await peer.read_eof()
        assert answer.startswith(b"HTTP/1.1 426 ")
        assert b"sec-websocket-version: 13" in answer.lower()


async def test_a_bad_handshake_of_a_peer_that_is_gone_already(
    open_node: OpenNode, autojump_clock: MockClock
) -> None:
    async with open_node() as node:
        stream = node.dial()
        await stream.send_all(BAD_HANDSHAKES["no key"])
        await stream.aclose()
        await trio.sleep(5)
        assert node.is_empty()
        assert node.log_lines() == []
