"""The node over TCP, with a client that shares no code with it."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from broker.errors import CloseCode
from broker.transport.port import Port
from tests.support.node import Node, OpenNode, echo_http
from tests.support.patience import PATIENCE_SECONDS


async def in_a_thread(work: Callable[[], Any]) -> Any:
    with trio.fail_after(PATIENCE_SECONDS):
        return await trio.to_thread.run_sync(work)


def receive(client: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(client.recv(timeout=PATIENCE_SECONDS))
    return message


def code_of(client: ClientConnection) -> int | None:
    """Read to the end; return the code of the close frame that came."""
    with suppress(ConnectionClosed):
        while True:
            client.recv(timeout=PATIENCE_SECONDS)
    received = client.protocol.close_rcvd
    return None if received is None else received.code


async def test_a_conversation(open_node: OpenNode) -> None:
    def talk() -> None:
        with (
            connect(url + node.target("lobby", token=tokens["ann"])) as ann,
            connect(
                f"{url}/ws/lobby", additional_headers={"Authorization": f"Bearer {tokens['bob']}"}
            ) as bob,
            connect(f"{url}/ws/lobby", subprotocols=["greenroom.v1", f"bearer.{tokens['cyd']}"]) as cyd,
        ):
            assert cyd.subprotocol == "greenroom.v1"
            assert [receive(client)["type"] for client in (ann, bob, cyd)] == ["joined"] * 3
            while (last := receive(ann)).get("user_id") != "cyd":
                assert last["type"] == "user_joined"
            ann.send(json.dumps({"type": "chat", "text": "gr\u00fc\u00dfe \U0001f600", "id": 1}))
            for client in (ann, bob, cyd):
                while (message := receive(client))["type"] != "chat":
                    pass
                assert message["text"] == "gr\u00fc\u00dfe \U0001f600"
            # In fragments, and large; what comes back is larger than any buffer on the way.
            data = os.urandom(25_000).hex()
            whole = json.dumps({"type": "publish", "event": "e", "data": data})
            bob.send([whole[:1], whole[1:20_000], whole[20_000:]])
            while (message := receive(cyd))["type"] != "event":
                pass
            assert message["data"] == data
            assert bob.ping().wait(10)
        with connect(url + node.target("lobby", token=tokens["dan"])) as dan:
            assert receive(dan)["room_size"] == 1, "the others have gone in good order"

    async with open_node() as node:
        url = f"ws://127.0.0.1:{await node.listen()}"
        tokens = {user: node.token(user) for user in ("ann", "bob", "cyd", "dan")}
        await in_a_thread(talk)
        await node.wait_gone(0)
        assert node.is_empty()
        assert node.log_lines() == []


@pytest.mark.parametrize(
    ("path", "message", "code"),
    [
        ("/ws/lobby?token=x", None, CloseCode.UNAUTHORIZED),
        ("{lobby}", b"binary", CloseCode.BINARY_MESSAGE),
        ("{lobby}", "x" * 70_000, CloseCode.MESSAGE_TOO_BIG),
        ("{lobby}", "x" * 5_000_000, CloseCode.MESSAGE_TOO_BIG),
        ("{secret}", None, CloseCode.FORBIDDEN),
    ],
)
async def test_close_codes(open_node: OpenNode, path: str, message: str | bytes | None, code: int) -> None:
    def talk() -> int | None:
        with connect(url, max_size=None) as client:
            if message is not None:
                client.send(message)
            return code_of(client)

    async with open_node() as node:
        port = await node.listen()
        targets = {
            "lobby": node.target("lobby", token=node.token("ann")),
            "secret": node.target("user_bob", token=node.token("ann")),
        }
        url = f"ws://127.0.0.1:{port}{path.format(**targets)}"
        assert await in_a_thread(talk) == code


async def test_the_address_of_a_connection_is_its_peers(open_node: OpenNode) -> None:
    def talk() -> list[int | None]:
        with connect(url) as first:
            receive(first)
            with connect(url) as second:
                return [code_of(second)]

    async with open_node(limits={"connections_per_address": 1}) as node:
        url = f"ws://127.0.0.1:{await node.listen()}{node.target('lobby', token=node.token('ann'))}"
        assert await in_a_thread(talk) == [CloseCode.TOO_MANY]


async def test_http_beside_it_on_the_same_port(open_node: OpenNode) -> None:
    async with open_node() as node:
        stream = await trio.open_tcp_stream("127.0.0.1", await node.listen())
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"http:GET /health")
        await stream.aclose()


async def test_a_connection_reset_before_it_was_looked_at(open_node: OpenNode) -> None:
    async with open_node() as node:
        port = Port(node.services, node.admission, node.settings.http, echo_http)
        await serve_a_dead_socket(node, port)
        assert node.is_empty()
        assert node.log_lines() == []


async def serve_a_dead_socket(node: Node, port: Port) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.open_tcp_stream(*listener.socket.getsockname())
        server = await listener.accept()
        await client.aclose()
        # A socket that has lost its peer has no peer's name.
        server.socket.close()
        await port.serve(server)
