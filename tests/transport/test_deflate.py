"""permessage-deflate as users see it: agreed on where it is switched on, and each event compressed once for all."""

import json
import zlib
from contextlib import ExitStack
from typing import Any

import msgspec
import pytest
import trio
from prometheus_client import generate_latest
from trio.testing import wait_all_tasks_blocked
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import ClientConnection, connect

from broker.errors import CloseCode
from broker.model import Draft, Excluded
from broker.protocol.content import choosing_header, notifier_content
from broker.protocol.tags import check_tags
from tests.support.node import Node, OpenNode
from tests.support.patience import PATIENCE_SECONDS
from tests.support.peers import TEXT, RawPeer, client_frame
from tests.transport.test_websockets_client import in_a_thread, receive

ON = {"compression": True, "compression_min_bytes": 100}
OFFER = "Sec-WebSocket-Extensions: permessage-deflate"
LONG = "the same words again and again, " * 30


@pytest.mark.parametrize(
    ("websocket", "offer", "expected"),
    [
        ({}, OFFER, None),
        (ON, "X-None: 1", None),
        (ON, OFFER + "; foo", None),
        (ON, OFFER, "permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
        (
            ON,
            OFFER + '; foo, permessage-deflate; server_max_window_bits="11"; client_max_window_bits',
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=11",
        ),
    ],
)
async def test_the_handshake_answers_an_offer_where_compression_is_on(
    open_node: OpenNode, websocket: dict[str, Any], offer: str, expected: str | None
) -> None:
    async with open_node(websocket=websocket) as node:
        peer = RawPeer(node.dial())
        head = await peer.shake_hands(node.target("lobby", token=node.token("ann")), offer)
        lines = [line.partition(": ") for line in head.split("\r\n")]
        found = [value for name, _, value in lines if name.lower() == "sec-websocket-extensions"]
        assert found == ([] if expected is None else [expected])


def factory(**arguments: Any) -> dict[str, Any]:
    """Return what has a client offer these."""
    return {"compression": None, "extensions": [ClientPerMessageDeflateFactory(**arguments)]}


OFFERS: dict[str, dict[str, Any]] = {
    "by default": {},
    "nothing": {"compression": None},
    "without takeover": factory(server_no_context_takeover=True, client_no_context_takeover=True),
    "the smallest windows": factory(server_max_window_bits=9, client_max_window_bits=9),
    "windows between": factory(server_max_window_bits=12, client_max_window_bits=True),
}


def until_chat(client: ClientConnection) -> str:
    while (message := receive(client))["type"] != "chat":
        pass
    return str(message["text"])


async def test_clients_with_and_without_it_share_a_room(open_node: OpenNode) -> None:
    """Over TCP, with a client of which nothing is ours."""

    def talk(clients: dict[str, ClientConnection]) -> None:
        for name, client in clients.items():
            assert bool(client.protocol.extensions) == (name != "nothing"), name
            assert receive(client)["type"] == "joined"
        for name, client in clients.items():
            whole = json.dumps({"type": "chat", "text": f"{name} {LONG}", "id": 1})
            client.send(json.dumps({"type": "chat", "text": name}))
            client.send(whole)
            # In fragments, of which each is flushed; the id is the same.
            client.send([whole[:1], whole[1:40], whole[40:]])
        texts = sorted(text for name in clients for text in (name, f"{name} {LONG}"))
        for client in clients.values():
            assert sorted(until_chat(client) for _ in texts) == texts

    def connect_and_talk() -> None:
        with ExitStack() as stack:
            talk(
                {
                    name: stack.enter_context(
                        connect(url + node.target("lobby", token=tokens[name]), **offer)
                    )
                    for name, offer in OFFERS.items()
                }
            )

    limits = {"text_characters": 2000, "user_bytes_burst": 1 << 20}
    async with open_node(websocket=ON, limits=limits) as node:
        tokens = {name: node.token(name.replace(" ", "-")) for name in OFFERS}
        url = f"ws://127.0.0.1:{await node.listen()}"
        await in_a_thread(connect_and_talk)
        tally = node.services.deflate.tally
        assert tally.connections == len(OFFERS) - 1
        assert 0 < tally.compressed_bytes < tally.plain_bytes / 3
        page = generate_latest(node.assembly.http.metrics).decode()
        assert f"greenroom_deflate_connections_total {tally.connections}.0" in page
        assert f"greenroom_deflate_plain_bytes_total {tally.plain_bytes}.0" in page
        assert f"greenroom_deflate_compressed_bytes_total {tally.compressed_bytes}.0" in page


async def deflate_peer(node: Node, user: str, query: str = "") -> RawPeer:
    peer = RawPeer(node.dial())
    head = await peer.shake_hands(node.target("lobby", token=node.token(user), extra=query), OFFER)
    assert "permessage-deflate" in head
    return peer


async def wire_of(peer: RawPeer, marker: bytes) -> bytes:
    """Return what is written to a peer, up to the message with the marker."""
    raw = b""
    with trio.fail_after(PATIENCE_SECONDS):
        while marker not in b"".join(texts_of(raw)):
            raw += await peer.stream.receive_some()
    return raw


def texts_of(raw: bytes) -> list[bytes]:
    """Return the messages in what a server has written, as far as they are whole."""
    texts, at = [], 0
    while at + 4 <= len(raw):
        size, head = (raw[at + 1], 2) if raw[at + 1] < 126 else (int.from_bytes(raw[at + 2 : at + 4]), 4)
        payload = raw[at + head : at + head + size]
        if len(payload) < size:
            break
        is_compressed = raw[at] == 0xC1
        texts.append(
            zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff") if is_compressed else payload
        )
        at += head + size
    return texts


async def publish(node: Node, text: str, **choosing: Any) -> None:
    content, header = notifier_content(json.dumps({"type": "news", "text": text}).encode())
    tags = check_tags(choosing.get("tags"))
    header = choosing_header(header, tags, choosing.get("excluded"))
    await node.rooms.publish("lobby", Draft(content, header=header))


@pytest.mark.parametrize("members", [3, 70], ids=["a small room", "a large room"])
async def test_an_event_is_compressed_once_for_all_members(open_node: OpenNode, members: int) -> None:
    """Also for those with a filter, and beside one who is excluded."""
    async with open_node(websocket=ON, room={"gather_above": 1}) as node:
        peers = [await deflate_peer(node, f"m{number}") for number in range(members)]
        peers.append(await deflate_peer(node, "filtered", "&tags=%7B%22kind%22:[%22a%22]%7D"))
        excluded = await deflate_peer(node, "excluded")
        plain = await node.client("plain", "lobby")
        await wait_all_tasks_blocked()
        tally = node.services.deflate.tally
        for kind in ("b", "a"):
            before = tally.plain_bytes
            await publish(node, f"{kind} {LONG}", tags={"kind": kind}, excluded=Excluded(user_id="excluded"))
            message = await plain.receive_type("news")
            assert message["text"] == f"{kind} {LONG}"
            await wait_all_tasks_blocked()
            # Its frame is somewhat larger than its text.
            assert 0 <= tally.plain_bytes - before - len(LONG) < 200
        await publish(node, "last", tags={"kind": "a"})
        wires = [await wire_of(peer, b"last") for peer in [*peers, excluded]]
        for wire, kinds in zip(wires, [*[("b", "a")] * members, ("a",), ()], strict=True):
            news = [json.loads(text) for text in texts_of(wire) if b"news" in text]
            assert [one["text"] for one in news] == [*[f"{kind} {LONG}" for kind in kinds], "last"]
            assert wire.count(b"\xc1") >= len(kinds)
            assert LONG.encode() not in wire


async def test_what_waits_for_a_client_is_counted_as_it_is_sent(open_node: OpenNode) -> None:
    """A client that reads nothing is sent more than its outbox would hold of the plain texts."""
    async with open_node(websocket={**ON, "outbox_bytes": 20_000}) as node:
        peer = await deflate_peer(node, "slow")
        await wire_of(peer, b"user_joined")
        for _ in range(40):
            await publish(node, LONG)
        await publish(node, "last", tags={"kind": "a"})
        texts = texts_of(await wire_of(peer, b"last"))
        assert sum(map(len, texts)) > 40_000
        assert len(texts) == 41


async def test_an_error_in_a_compressed_message_is_told_and_counted(open_node: OpenNode) -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    payload = bomb.compress(b" " * (10 << 20)) + bomb.flush(zlib.Z_SYNC_FLUSH)
    # The peer reads plain messages only.
    async with open_node(websocket={**ON, "compression_min_bytes": 100_000}) as node:
        for data, code in (
            (payload[:-4], CloseCode.MESSAGE_TOO_BIG),
            (b"\x07", CloseCode.INVALID_UTF8),
        ):
            peer = await deflate_peer(node, "ann")
            await peer.send(client_frame(TEXT, data, rsv=4))
            assert await peer.read_code() == code
            await trio.aclose_forcefully(peer.stream)


async def test_a_reload_holds_for_new_connections(open_node: OpenNode) -> None:
    async with open_node() as node:
        sessions = node.services.sessions
        first = RawPeer(node.dial())
        assert "deflate" not in await first.shake_hands(node.target("lobby", token=node.token("a")), OFFER)
        changed = msgspec.structs.replace(
            sessions.settings, websocket=msgspec.structs.replace(sessions.settings.websocket, **ON)
        )
        sessions.settings = changed
        await deflate_peer(node, "b")
        await first.send(client_frame(TEXT, b'{"type":"ping","id":1}'))
        while (await first.read_message()).get("id") != 1:
            pass
