"""Nodes and Redis in network namespaces, whose links lose, hold up and swallow packets; checked by a checker of histories."""

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import attrs
import httpx2
import jwt
import pytest
import trio

from bench.soak.peer import PeerGoneError, peer_over
from tests.support.history_checker import History, Place
from tests.support.namespaces import Link, Namespace, missing, star
from tests.support.patience import PATIENCE_SECONDS
from tests.support.redis import find_binary
from tests.support.secrets import API_KEY, SECRET
from tests.support.untraced import untraced

REDIS_PORT = "6379"
SPEAKERS = 4
ENVIRON = {
    "GREENROOM_SECRET": SECRET,
    "GREENROOM_API_KEY": API_KEY,
    "GREENROOM_REDIS__TIMEOUT_SECONDS": "1",
    "GREENROOM_REDIS__PROBE_SECONDS": "0.3",
    "GREENROOM_REDIS__LEASE_SECONDS": "2",
    "GREENROOM_SERVER__DRAIN_SECONDS": "0",
    "GREENROOM_HISTORY__MESSAGES": "100000",
    "GREENROOM_HISTORY__PAGE_MESSAGES": "100000",
    "GREENROOM_HISTORY__BYTES": "100000000",
    "GREENROOM_HISTORY__PAGE_BYTES": "100000000",
}


@attrs.define(eq=False)
class Node:
    """A node, which clients of this test reach by a Unix socket: those links are not what is tested."""

    link: Link
    socket: Path
    refused: int = 0
    """Publishes that were answered 503."""

    def client(self) -> httpx2.AsyncClient:
        transport = httpx2.AsyncHTTPTransport(uds=str(self.socket))
        headers = {"Authorization": f"Bearer {API_KEY}"}
        return httpx2.AsyncClient(
            transport=transport, base_url="http://node", headers=headers, timeout=PATIENCE_SECONDS
        )

    async def wait_ready(self) -> None:
        async with self.client() as client:
            while True:
                try:
                    if (await client.get("/ready")).is_success:
                        return
                except httpx2.TransportError:
                    pass
                await trio.sleep(0.05)


@asynccontextmanager
async def running(namespace: Namespace, *command: str) -> AsyncIterator[None]:
    """Run a program in a namespace until the block ends."""
    process = await trio.lowlevel.open_process(
        namespace.inside(*command), stdout=subprocess.DEVNULL, env={**untraced(os.environ), **ENVIRON}
    )
    try:
        yield
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


@asynccontextmanager
async def running_node(link: Link, folder: Path) -> AsyncIterator[Node]:
    node = Node(link, folder / f"{link.name}.sock")
    engine = f"redis://{link.hub_address}:{REDIS_PORT}"
    command = (sys.executable, "-m", "broker", "serve", "--host", f"unix:{node.socket}", "--engine", engine)
    async with running(link.node, *command):
        yield node


async def speak(node: Node, name: str, history: History, is_over: trio.Event) -> None:
    """Publish one text after the other, each again until it is acknowledged."""
    async with node.client() as client:
        for number in count():
            if is_over.is_set():
                return
            text = f"{name}-{number}"
            history.begin(text)
            answer = None
            while answer is None or answer.status_code == 503:
                if answer is not None:
                    node.refused += 1
                await trio.sleep(0.05 if answer is None else 0.1)
                answer = await client.post(
                    "/api/rooms/den/messages",
                    json={"type": "note", "text": text},
                    headers={"Idempotency-Key": text},
                )
            assert answer.is_success, answer.text
            placed = answer.json()
            history.acknowledge(text, Place(placed["epoch"], placed["offset"]))


async def listen(node: Node, name: str, history: History) -> None:
    """Be in the room for ever, and come back with the last position that was seen."""
    seen: Place | None = None
    while True:
        token = jwt.encode({"sub": name, "exp": time.time() + 3600}, SECRET, algorithm="HS256")
        since = "" if seen is None else f"&epoch={seen.epoch}&offset={seen.offset}"
        try:
            stream = await trio.open_unix_socket(str(node.socket))
            async with peer_over(stream, f"/ws/den?token={token}{since}") as peer:
                while True:
                    message = await peer.receive()
                    for event in message.get("messages", []) if message["type"] == "joined" else [message]:
                        if event["type"] == "note":
                            seen = Place(event["epoch"], event["offset"])
                            history.hear(name, seen, event["text"])
                    if message["type"] == "joined":
                        seen = seen or Place(message["epoch"], message["offset"])
                        assert message["recovered"] is bool(since), "something was lost"
        except PeerGoneError:
            await trio.sleep(0.1)


async def disturb(east: Link, west: Link, is_over: trio.Event) -> None:
    """Let the links do everything; whole in between and at the end."""
    for fault, links, seconds in (
        (Link.lose, (east, west), 1.5),
        # Long enough to end connections; the second for the lease, too.
        (Link.partition, (east,), 1.8),
        (Link.partition, (west,), 3.0),
        (Link.hold_up, (east, west), 1.5),
        (Link.partition, (east, west), 1.8),
    ):
        for link in links:
            fault(link)
        await trio.sleep(seconds)
        for link in links:
            link.heal()
        await trio.sleep(0.5)
    is_over.set()


@pytest.fixture
def namespaces() -> None:
    if (reason := missing()) is not None:
        pytest.skip(reason)


async def test_nothing_acknowledged_is_lost_repeated_or_reordered_over_bad_links(
    namespaces: None, tmp_path: Path
) -> None:
    history = History()
    redis = (
        str(find_binary()),
        "--bind",
        "0.0.0.0",
        "--protected-mode",
        "no",
        "--port",
        REDIS_PORT,
        "--save",
        "",
    )
    with trio.fail_after(2 * PATIENCE_SECONDS), star(["east", "west"]) as (hub, (to_east, to_west)):
        async with (
            running(hub, *redis, "--dir", str(tmp_path)),
            running_node(to_east, tmp_path) as east,
            running_node(to_west, tmp_path) as west,
            trio.open_nursery() as nursery,
        ):
            for node in (east, west):
                await node.wait_ready()
            nursery.start_soon(listen, east, "ann", history)
            nursery.start_soon(listen, west, "bob", history)
            is_over = trio.Event()
            async with trio.open_nursery() as speaking:
                for number in range(SPEAKERS):
                    speaking.start_soon(
                        speak, (east, west)[number % 2], f"speaker-{number}", history, is_over
                    )
                speaking.start_soon(disturb, to_east, to_west, is_over)
            async with east.client() as client:
                page = (await client.get("/api/rooms/den/messages")).json()
            history.stored = [
                (Place(event["epoch"], event["offset"]), event["text"]) for event in page["messages"]
            ]
            last = history.stored[-1][0]
            while [events[-1][0] for events in history.heard.values()] != [last, last]:
                await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
    assert list(history.faults()) == []
    assert len(history.stored) == len(history.publishes)
    assert east.refused + west.refused, "no partition was noticed"
