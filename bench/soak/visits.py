"""The visits of the soak: each a client, or a call of the application, that does one thing once."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from types import MappingProxyType

import attrs
import httpx2
import jwt
import msgspec
import trio

from bench.machine import HOST
from bench.soak.peer import Peer, PeerGoneError, open_peer
from bench.soak.server import CRASH
from bench.spec import Credentials

ROOMS = tuple(f"den-{number}" for number in range(8))
LOUD, CRASHING = "loud", "crashing"
LOUD_BYTES = 50_000
SMALL_BUFFER_BYTES = 4096
TOKEN_SECONDS = 3600
USERS = 300
"""Users come back, so that what a server keeps of so many for a while, within its bounds, is there behind the warm-up."""


@attrs.define(eq=False)
class World:
    """The servers and what has happened; `nodes` are the ports that take clients, the first that of the server under test."""

    credentials: Credentials
    http: httpx2.AsyncClient
    nodes: list[int]
    random: Random
    done: Counter[str] = attrs.Factory(Counter)
    """Visits to their end, by kind, and closes by code."""

    def target(self, room: str, **query: object) -> str:
        """Return the target of some user's WebSocket."""
        claims = {"sub": self.user(), "exp": time.time() + TOKEN_SECONDS}
        token = jwt.encode(claims, self.credentials.secret, algorithm="HS256")
        more = "".join(f"&{name}={value}" for name, value in query.items())
        return f"/ws/{room}?token={token}{more}"

    def user(self) -> str:
        """Return the id of some user."""
        return f"user-{self.random.randrange(USERS)}"

    def port(self) -> int:
        """Return the port of some node."""
        return self.random.choice(self.nodes)


Visit = Callable[[World], Awaitable[None]]


async def churn(world: World) -> None:
    """Come, join more rooms, talk, listen, and go in one of three ways."""
    random = world.random
    async with open_peer(world.port(), world.target(random.choice(ROOMS))) as peer:
        await peer.receive_until("joined")
        for room in random.sample(ROOMS, 2):
            await peer.send(type="join", room=room, id=room)
        for number in range(random.randrange(5)):
            room = random.choice(ROOMS)
            await peer.send(type="join", room=room)
            await peer.send(type="chat", room=room, text="x" * random.choice((1, 50, 400)), id=number)
        await peer.send(type="presence", room=random.choice(ROOMS), id="who")
        with trio.move_on_after(random.random()):
            while True:
                await peer.receive()
        await _leave(world, peer)


async def _leave(world: World, peer: Peer) -> None:
    match world.random.randrange(3):
        case 0:
            await peer.say_goodbye()
        case 1:
            peer.reset()
        case _:
            pass


async def reset(world: World) -> None:
    """Send half of a frame, or half of a request, and reset the connection."""
    if world.random.random() < 0.5:
        async with open_peer(world.port(), world.target(world.random.choice(ROOMS))) as peer:
            await peer.send_raw(b"\x81\xfe\x01\x00maskhalf of it")
            peer.reset()
    else:
        stream = await trio.open_tcp_stream(HOST, world.port())
        async with stream:
            await Peer(stream).send_raw(b"POST /api/rooms/den-0/messages HTTP/1.1\r\nHost: x\r\n")
            Peer(stream).reset()


async def half_open(world: World) -> None:
    """Answer nothing any more, until the server gives the connection up."""
    async with open_peer(world.port(), world.target(world.random.choice(ROOMS))) as peer:
        while True:
            await peer.receive_raw()


async def slow(world: World) -> None:
    """Read a loud room slowly, until the server gives the connection up or a while is over."""
    async with open_peer(world.port(), world.target(LOUD), receive_buffer_bytes=SMALL_BUFFER_BYTES) as peer:
        with trio.move_on_after(5):
            while True:
                await trio.sleep(0.1)
                await peer.receive_raw(SMALL_BUFFER_BYTES // 4)


async def crash(world: World) -> None:
    """Be in a room that fails."""
    room = f"{CRASHING}-{world.random.randrange(4)}"
    async with open_peer(world.nodes[0], world.target(room)) as peer:
        await peer.receive_until("joined")
        body = msgspec.json.encode({"type": "x", "text": msgspec.Raw(CRASH)})
        answer = await world.http.post(f"/api/rooms/{room}/messages", content=body)
        world.done[f"crash answered with {answer.status_code}"] += 1
        with trio.move_on_after(1):
            while True:
                await peer.receive()


async def recover(world: World) -> None:
    """Read histories in each way, and miss something of a room."""
    room = world.random.choice(ROOMS)
    page = (await world.http.get(f"/api/rooms/{room}/messages", params={"limit": 100})).json()
    since = {"offset": max(0, page["offset"] - 20), "epoch": page["epoch"]}
    async with open_peer(world.port(), world.target(room, **since)) as peer:
        await peer.receive_until("joined")
        await peer.send(type="history", room=room, limit=50, reverse=True, id=1)
        await peer.receive_until("history")
        await _leave(world, peer)
    if world.random.random() < 0.1:
        await world.http.delete(f"/api/rooms/{room}/messages")


async def publish(world: World) -> None:
    """Publish a batch, which is loud in one room, and a broadcast."""
    message = {"type": "noise", "text": "x" * LOUD_BYTES}
    lines = [{"room": LOUD, "message": message} for _ in range(10)]
    await world.http.post("/api/messages", content=b"\n".join(map(msgspec.json.encode, lines)))
    body = {"rooms": list(ROOMS), "message": {"type": "news", "text": "x" * 100}}
    await world.http.post("/api/broadcast", json=body)


async def stream(world: World) -> None:
    """Listen to a room as server-sent events for a moment."""
    async with world.http.stream("GET", f"/api/rooms/{world.random.choice(ROOMS)}/events") as response:
        with trio.move_on_after(world.random.random()):
            async for _ in response.aiter_raw():
                pass


async def administer(world: World) -> None:
    """Take tokens back, disconnect and remove users, and look around."""
    user = world.user()
    room = world.random.choice(ROOMS)
    match world.random.randrange(4):
        case 0:
            await world.http.post("/api/revocations", json={"user_id": user, "expires_at": time.time() + 1})
        case 1:
            await world.http.delete(f"/api/users/{user}")
        case 2:
            await world.http.delete(f"/api/rooms/{room}/users/{user}")
        case _:
            await world.http.get(f"/api/rooms/{room}", params={"by": "connection"})
            await world.http.get("/api/users")


VISITS: Mapping[Visit, int] = MappingProxyType(
    {churn: 6, reset: 2, half_open: 2, slow: 2, crash: 1, recover: 2, publish: 1, stream: 1, administer: 1}
)
"""Each kind of visit, and how many of it there are at a time."""


async def repeat(world: World, visit: Visit, is_over: trio.Event) -> None:
    """Make visits of a kind, one after the other."""
    while not is_over.is_set():
        try:
            await visit(world)
        except PeerGoneError as gone:
            if gone.code:
                world.done[f"closed with {gone.code}"] += 1
        except (OSError, httpx2.TransportError):
            # The other node comes and goes.
            world.done["failed"] += 1
            await trio.sleep(0.1)
        world.done[visit.__name__] += 1
        await trio.sleep(0.05 * world.random.random())
