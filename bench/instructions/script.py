"""Joins, publishes, posts and leaves, always the same ones. Usage: script.py LIBRARY, under callgrind.

Nothing in it may depend on time, chance or the machine, so that it executes the same instructions every time;
the order in which trio runs tasks that are ready is chance otherwise.
"""

import gc
import socket
import sys
from collections.abc import Callable

import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from bench.instructions.node import API_KEY, Node, open_node, target_of
from bench.instructions.stages import Stages
from bench.load.frames import CLOSE, client_frame
from broker.transport.byte_stream import ByteStream, MemoryByteStream, SocketByteStream

_ROOMS, _MEMBERS = 5, 10
_PUBLISHES = 30
_POSTS, _NOTIFIERS = 30, 4
_PAIRS, _ROUNDS = 20, 10
_WARM_UP = 1
_MASK = bytes.fromhex("37fa213d")
_CHAT = client_frame(b'{"type":"chat","text":"' + b"x" * 64 + b'"}', _MASK)
_PING = client_frame(b'{"type":"ping"}', _MASK)
_CONTENT = b'{"type":"order_update","order_id":"7","status":"shipped"}'
_POST = (
    b"POST /api/rooms/user_7/messages HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
) % (API_KEY.encode(), len(_CONTENT), _CONTENT)
_BYE = client_frame((1000).to_bytes(2), _MASK, CLOSE)
_READ_BYTES = 1 << 20

_ADDRESS = "127.0.0.1"

Pair = tuple[trio.abc.HalfCloseableStream, ByteStream]


def memory_pair() -> Pair:
    """Return the client's end and the node's of a stream in memory."""
    ours, theirs = memory_stream_pair()
    return ours, MemoryByteStream(theirs, _ADDRESS)


def socket_pair() -> Pair:
    """Return the client's end and the node's of a pair of sockets: what comes is read as from the network."""
    ours, theirs = trio.socket.socketpair()
    return trio.SocketStream(ours), SocketByteStream(trio.SocketStream(theirs), _ADDRESS)


class Member:
    """One client: says what it is told to and keeps what comes."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream = stream
        self._heard: list[bytes | bytearray] = []

    async def listen(self) -> None:
        """Read to the end."""
        try:
            while chunk := await self.stream.receive_some(_READ_BYTES):
                self._heard.append(chunk)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    def chats(self) -> int:
        """Return how many chats were heard."""
        return b"".join(self._heard).count(b'"type":"chat"')

    def answers(self) -> int:
        """Return how many posts were answered."""
        return b"".join(self._heard).count(b"HTTP/1.1 200 ")


async def play(node: Node, make_pair: Callable[[], Pair], stages: Stages, kind: str) -> None:
    """Join, publish and leave, each counted as a stage of `kind`."""
    async with trio.open_nursery() as nursery:
        members: list[Member] = []
        with stages.stage(f"{kind}-joins"):
            for number in range(_ROOMS * _MEMBERS):
                ours, theirs = make_pair()
                node.connect(theirs)
                members.append(Member(ours))
                nursery.start_soon(members[-1].listen)
                await ours.send_all(_handshake(target_of(f"room-{kind}-{number % _ROOMS}", f"u{number}")))
                await wait_all_tasks_blocked()
        with stages.stage(f"{kind}-publishes"):
            for _ in range(_PUBLISHES):
                for member in members[:_ROOMS]:
                    await member.stream.send_all(_CHAT)
                await wait_all_tasks_blocked()
                _pass_time()
        if any(member.chats() != _PUBLISHES for member in members):
            raise RuntimeError("not everyone heard everything: what was counted means nothing")
        with stages.stage(f"{kind}-leaves"):
            for number, member in enumerate(members):
                if number % 2:
                    await member.stream.send_all(_BYE)
                else:
                    await trio.aclose_forcefully(member.stream)
                await wait_all_tasks_blocked()
        for member in members:
            await trio.aclose_forcefully(member.stream)
        nursery.cancel_scope.cancel()


async def post(node: Node, make_pair: Callable[[], Pair], stages: Stages, kind: str) -> None:
    """Post messages into a room with nobody in it, over kept connections; the posts are a stage of `kind`."""
    async with trio.open_nursery() as nursery:
        notifiers: list[Member] = []
        for _ in range(_NOTIFIERS):
            ours, theirs = make_pair()
            node.connect(theirs)
            notifiers.append(Member(ours))
            nursery.start_soon(notifiers[-1].listen)
            await ours.send_all(_POST)
            await wait_all_tasks_blocked()
        with stages.stage(f"{kind}-posts"):
            for _ in range(_POSTS):
                for notifier in notifiers:
                    await notifier.stream.send_all(_POST)
                await wait_all_tasks_blocked()
                _pass_time()
        if any(notifier.answers() != _POSTS + 1 for notifier in notifiers):
            raise RuntimeError("not every post was answered: what was counted means nothing")
        for notifier in notifiers:
            await trio.aclose_forcefully(notifier.stream)
        nursery.cancel_scope.cancel()


async def speak(node: Node, stages: Stages, kind: str) -> None:
    """Chat in rooms of two, and ping: two stages. The clients are plain sockets, so that nearly all counted is the node's."""
    clients: list[socket.socket] = []
    for number in range(2 * _PAIRS):
        ours, theirs = socket.socketpair()
        clients.append(ours)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
        node.connect(SocketByteStream(stream, _ADDRESS))
        ours.sendall(_handshake(target_of(f"pair-{kind}-{number % _PAIRS}", f"u{number}")))
        await wait_all_tasks_blocked()
    speakers = clients[:_PAIRS]
    for name, message, answer, hearers in (
        ("chats", _CHAT, b'"type":"chat"', clients),
        ("pings", _PING, b'"type":"pong"', speakers),
    ):
        with stages.stage(f"pairs-{name}"):
            for _ in range(_ROUNDS):
                for speaker in speakers:
                    speaker.sendall(message)
                await wait_all_tasks_blocked()
                _pass_time()
        if any(hearer.recv(_READ_BYTES).count(answer) != _ROUNDS for hearer in hearers):
            raise RuntimeError("not everyone heard everything: what was counted means nothing")
    for client in clients:
        client.close()
    await wait_all_tasks_blocked()


def _pass_time() -> None:
    """Let some milliseconds pass, as they do between rounds of messages: a room lends so many turns in each."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    clock.jump(0.01)


def _handshake(target: str) -> bytes:
    return (
        f"GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


async def main(path: str | None) -> None:
    """Play it all, first unseen so that caches are warm and what is imported late has been."""
    counted, unseen = Stages(path), Stages(None)
    async with open_node() as node:
        for kind, make_pair in (("memory", memory_pair), ("sockets", socket_pair)):
            for number in range(_WARM_UP):
                await play(node, make_pair, unseen, f"{kind}{number}")
                await post(node, make_pair, unseen, f"{kind}{number}")
            await play(node, make_pair, counted, kind)
            await post(node, make_pair, counted, kind)
        await speak(node, unseen, "unseen")
        await speak(node, counted, "counted")


def run(path: str | None) -> None:
    """Run `main` with chance and time taken out of it."""
    # Private, and named by trio for exactly this: its scheduler shuffles what is ready.
    scheduler = trio._core._run  # noqa: SLF001
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # noqa: SLF001
    scheduler._r.seed(0)  # noqa: SLF001
    gc.disable()
    trio.run(main, path, clock=MockClock())


if __name__ == "__main__":
    run(sys.argv[1] if len(sys.argv) > 1 else None)
