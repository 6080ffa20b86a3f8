"""The opening handshake is answered with the bytes that trio-websocket would answer it with."""

import base64
from collections.abc import Awaitable, Callable

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import memory_stream_pair
from trio_websocket import wrap_server_stream

from broker.transport.handshake import answer_handshake
from broker.transport.head import parse_head
from tests.support.node import Node, OpenNode
from tests.support.patience import PATIENCE_SECONDS
from tests.support.peers import PING, TEXT, RawPeer, client_frame, text_of

TOKENS = st.text("abcXYZ019.!#$%&'*+-^_`|~", min_size=1, max_size=30)


async def answer_of_library(request: bytes, subprotocol: str | None) -> bytes:
    client, server = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await client.send_all(request)
        asked = await wrap_server_stream(nursery, server)  # type: ignore[arg-type]  # any stream does
        await asked.accept(subprotocol=subprotocol)
        nursery.cancel_scope.cancel()
    return bytes(await client.receive_some())


@given(
    key=st.binary(min_size=16, max_size=16),
    offered=st.lists(TOKENS, max_size=3, unique=True),
    chosen=st.integers(0, 3),
    extensions=st.sampled_from(
        ["", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"]
    ),
)
def test_any_key_and_subprotocol_are_answered_as_by_trio_websocket(
    key: bytes, offered: list[str], chosen: int, extensions: str
) -> None:
    lines = f"Sec-WebSocket-Protocol: {', '.join(offered)}\r\n" if offered else ""
    request = (
        "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(key).decode()}\r\n"
        f"{lines}{extensions}\r\n"
    ).encode()
    subprotocol = offered[chosen] if chosen < len(offered) else None
    expected = trio.run(answer_of_library, request, subprotocol)
    assert answer_handshake(parse_head(request), subprotocol) == expected


async def count_tasks(node: Node, act: Callable[[RawPeer], Awaitable[None]]) -> int:
    """Return how many tasks one more connection over TCP costs, on which `act` was done."""
    port = await node.listen()

    async def join(user: str) -> RawPeer:
        peer = RawPeer(await trio.open_tcp_stream("127.0.0.1", port))
        assert "101" in await peer.shake_hands(node.target("lobby", token=node.token(user)))
        assert (await peer.read_message())["type"] == "joined"
        return peer

    first = await join("ann")
    tasks = trio.lowlevel.current_statistics().tasks_living
    second = await join("bob")
    await act(second)
    more = trio.lowlevel.current_statistics().tasks_living - tasks
    for peer in (first, second):
        await trio.aclose_forcefully(peer.stream)
    await node.wait_gone(0)
    return more


async def speak(peer: RawPeer) -> None:
    """Do all that ordinary clients do."""
    await peer.send(client_frame(PING, b"x"))
    assert await peer.read_pong() == b"x"
    for kind in ("presence", "history", "ping"):
        await peer.send(text_of(type=kind, id=kind))
        while (await peer.read_message()).get("id") != kind:
            pass


async def speak_in_fragments(peer: RawPeer) -> None:
    text = text_of(type="ping", id=1)
    assert len(text) < 126
    await peer.send(client_frame(TEXT, b'{"type":', fin=False))
    await peer.send(client_frame(0, b'"ping","id":1}'))
    while (await peer.read_message()).get("id") != 1:
        pass


async def test_an_ordinary_connection_is_one_task_and_trio_websocket_comes_with_the_first_fragment(
    open_node: OpenNode,
) -> None:
    async with open_node() as node:
        with trio.fail_after(PATIENCE_SECONDS):
            assert await count_tasks(node, speak) == 1
            assert await count_tasks(node, speak_in_fragments) > 1
