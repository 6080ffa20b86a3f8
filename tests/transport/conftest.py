"""A whole node in memory, on virtual time: engine, rooms, sessions, connections, keeper and port.

Also used by tests/sessions and tests/isolation. Peers talk to it over `trio.testing.memory_stream_pair`, or over
real sockets after `Node.listen`.
"""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from io import StringIO
from typing import Any, TypeAlias
from urllib.parse import quote

import attrs
import pytest
import trio
from trio.testing import memory_stream_pair
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, Pong, TextMessage

from broker.auth.mint import mint_token
from broker.auth.permissions import RoomPolicy
from broker.auth.tokens import open_verifier
from broker.config.settings import (
    AuthSettings,
    HistorySettings,
    HttpSettings,
    LimitSettings,
    LogSettings,
    RoomRule,
    RoomSettings,
    Settings,
    WebSocketSettings,
)
from broker.engine.base import Engine
from broker.engine.memory import MemoryEngine
from broker.log import open_log
from broker.protocol.commands import CommandDecoder
from broker.rooms.directory import Rooms, open_rooms
from broker.sessions.directory import Connections
from broker.sessions.keeper import run_keeper
from broker.sessions.session import SessionServices
from broker.transport.admission import Admission
from broker.transport.connection import ConnectionServices
from broker.transport.frames import WebSocketCodec
from broker.transport.port import Port
from broker.transport.streams import ReplayStream

Message: TypeAlias = dict[str, Any]

SECRET = "a secret of these tests, long enough"
LONGEST_SECONDS = 120.0
"""How long a peer waits for anything; virtual seconds, where the clock jumps."""

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


def client_frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, announced: int | None = None
) -> bytes:
    """Return a client's frame, masked with 1 2 3 4; `announced` is the length it claims to have."""
    size = len(payload) if announced is None else announced
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += b"\xfe" + size.to_bytes(2, "big")
    else:
        head += b"\xff" + size.to_bytes(8, "big")
    return head + b"\1\2\3\4" + bytes(byte ^ (1, 2, 3, 4)[i % 4] for i, byte in enumerate(payload))


def text_of(**message: object) -> bytes:
    """Return a message as a client's text frame."""
    return client_frame(TEXT, json.dumps(message).encode())


def handshake(target: str, *headers: str) -> bytes:
    """Return an opening handshake (RFC 6455 section 4.1)."""
    lines = [
        f"GET {target} HTTP/1.1",
        "Host: example.org",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *headers,
    ]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n"


@attrs.define(eq=False)
class Client:
    """A well-behaved client that speaks JSON."""

    connection: WebSocketConnection
    stream: trio.abc.HalfCloseableStream

    async def send(self, **message: object) -> None:
        await self.connection.send_message(json.dumps(message))

    async def receive(self) -> Message:
        with trio.fail_after(LONGEST_SECONDS):
            message: Message = json.loads(await self.connection.get_message())
        return message

    async def receive_type(self, kind: str) -> Message:
        """Return the next message of a type, throwing away those before it."""
        while (message := await self.receive())["type"] != kind:
            pass
        return message

    async def ask(self, **message: object) -> Message:
        """Send a request with an id of its own and return what answers it, throwing away the rest."""
        await self.send(**{"id": "asked", **message})
        while (reply := await self.receive()).get("id") != message.get("id", "asked"):
            pass
        return reply

    async def read_to_end(self) -> tuple[list[Message], int]:
        """Return all that comes, and the code with which the connection is closed."""
        messages = []
        while True:
            try:
                messages.append(await self.receive())
            except ConnectionClosed as closed:
                return messages, closed.reason.code

    async def read_code(self) -> int:
        """Return the code with which the connection is closed."""
        return (await self.read_to_end())[1]

    async def settle(self) -> list[Message]:
        """Return all that comes while nobody does anything more."""
        messages = []
        while True:
            with trio.move_on_after(0.01) as waited:
                messages.append(await self.receive())
            if waited.cancelled_caught:
                return messages

    async def aclose(self) -> None:
        await self.connection.aclose()


@attrs.define(eq=False)
class RawPeer:
    """A peer that writes what it likes, and reads frames with wsproto."""

    stream: trio.abc.HalfCloseableStream
    protocol: Connection = attrs.Factory(lambda: Connection(ConnectionType.CLIENT))

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def shake_hands(self, target: str, *headers: str) -> str:
        """Write a handshake and return the head of the answer; the rest is for `read_event`."""
        await self.send(handshake(target, *headers))
        return await self.read_head()

    async def read_head(self) -> str:
        head = await self.try_read_head()
        assert head is not None, "closed before the end of the head"
        return head

    async def try_read_head(self) -> str | None:
        """Return the head of the answer; None if the server ends its side before."""
        raw = bytearray()
        with trio.fail_after(LONGEST_SECONDS):
            while b"\r\n\r\n" not in raw:
                data = await self.stream.receive_some()
                if not data:
                    return None
                raw += data
        head, _, rest = bytes(raw).partition(b"\r\n\r\n")
        self.protocol.receive_data(rest)
        return head.decode()

    async def read_event(self) -> Event | None:
        """Return the next event; None once the server has ended its side."""
        while (event := next(self.protocol.events(), None)) is None:
            with trio.fail_after(LONGEST_SECONDS):
                data = await self.stream.receive_some()
            if not data:
                return None
            self.protocol.receive_data(data)
        return event

    async def read_until(self, *kinds: type[Event]) -> Event | None:
        """Return the next event of these kinds; None if the server ends its side before."""
        while (event := await self.read_event()) is not None and not isinstance(event, kinds):
            pass
        return event

    async def read_message(self) -> Message:
        """Return the next message."""
        text, event = "", None
        while event is None or not event.message_finished:
            event = await self.read_until(TextMessage)
            assert isinstance(event, TextMessage), "no more messages"
            text += event.data
        message: Message = json.loads(text)
        return message

    async def read_pong(self) -> bytes:
        """Return the payload of the next pong."""
        event = await self.read_until(Pong)
        assert isinstance(event, Pong)
        return bytes(event.payload)

    async def wait_ping(self) -> None:
        """Wait for a ping, and leave it unanswered."""
        assert await self.read_until(Ping)

    async def read_close(self) -> tuple[int, str] | None:
        """Return code and reason of the close frame; None if the server ended its side without one."""
        event = await self.read_until(CloseConnection)
        assert event is None or isinstance(event, CloseConnection)
        return event and (int(event.code), event.reason or "")

    async def read_code(self) -> int | None:
        close = await self.read_close()
        return None if close is None else close[0]

    async def read_eof(self) -> bytes:
        """Return all that comes until the server ends its side."""
        raw = bytearray()
        with trio.fail_after(LONGEST_SECONDS):
            while data := await self.stream.receive_some():
                raw += data
        return bytes(raw)


@attrs.define(eq=False)
class Node:
    """What `open_node` has put together."""

    settings: Settings
    engine: Engine
    rooms: Rooms
    connections: Connections
    admission: Admission
    services: ConnectionServices
    port: Port
    nursery: trio.Nursery
    wall_clock: Callable[[], float]
    log: StringIO
    is_draining: bool = False

    def token(self, user: str, *, ttl_seconds: float = 3600, **claims: Any) -> str:
        return mint_token(
            secret=SECRET,
            algorithm="HS256",
            user_id=user,
            ttl_seconds=ttl_seconds,
            now=self.wall_clock(),
            **claims,
        )

    def target(self, room: str | None = None, *, token: str | None = None, extra: str = "") -> str:
        """Return a request target for a room (percent-encoded here) and a token."""
        path = "/ws" if room is None else f"/ws/{quote(room, safe='')}"
        return path + ("" if token is None else f"?token={token}") + extra

    def dial(
        self, address: str = "10.0.0.1", *, services: ConnectionServices | None = None
    ) -> trio.StapledStream[Any, Any]:
        """Connect; returns the peer's end."""
        ours, theirs = memory_stream_pair()
        port = self.port if services is None else self.make_port(services)
        self.nursery.start_soon(port.serve_stream, theirs, address)
        return ours

    def make_port(self, services: ConnectionServices) -> Port:
        return Port(services, self.admission, self.settings.http, echo_http)

    async def client(
        self,
        user: str | None = None,
        room: str | None = None,
        *,
        target: str | None = None,
        address: str = "10.0.0.1",
        subprotocols: Sequence[str] = (),
        headers: Sequence[tuple[bytes, bytes]] = (),
        services: ConnectionServices | None = None,
        **claims: Any,
    ) -> Client:
        """Connect as a user, to a room or to none."""
        if target is None:
            token = None if user is None else self.token(user, **claims)
            target = self.target(room, token=token)
        stream = self.dial(address, services=services)
        with trio.fail_after(LONGEST_SECONDS):
            connection = await wrap_client_stream(
                self.nursery,
                stream,  # type: ignore[arg-type]  # any stream does
                "example.org",
                target,
                subprotocols=subprotocols,
                extra_headers=list(headers),
                message_queue_size=10_000,
            )
        return Client(connection, stream)

    async def member(self, user: str, room: str, **kwargs: Any) -> Client:
        """Connect as a user to a room, and read until that user's coming in was told."""
        client = await self.client(user, room, **kwargs)
        assert (await client.receive())["type"] == "joined"
        assert (await client.receive())["user_id"] == user
        return client

    async def raw_peer(self, target: str, *headers: str, address: str = "10.0.0.1") -> RawPeer:
        """Connect and shake hands as a peer that writes what it likes."""
        peer = RawPeer(self.dial(address))
        assert "101" in (await peer.shake_hands(target, *headers)).partition("\r\n")[0]
        return peer

    async def listen(self) -> int:
        """Serve a free port of 127.0.0.1 as well; returns its number."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.nursery.start_soon(
            partial(trio.serve_listeners, self.port.serve, listeners, handler_nursery=self.nursery)
        )
        number: int = listeners[0].socket.getsockname()[1]
        return number

    def log_lines(self) -> list[Message]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    def is_empty(self) -> bool:
        """Whether nothing is left of any connection."""
        return not len(self.connections) and not len(self.admission) and not self.rooms.statistics().members


async def echo_http(stream: ReplayStream) -> None:
    """Stand where the HTTP side would: give back what was asked."""
    await stream.send_all(b"http:" + await stream.receive_some(65_536))
    await stream.aclose()


def make_settings(**sections: Any) -> Settings:
    """Return settings; each section is given as a dict of what is not to have its default."""
    kinds = {
        "http": HttpSettings,
        "websocket": WebSocketSettings,
        "limits": LimitSettings,
        "history": HistorySettings,
        "room": RoomSettings,
    }
    auth = AuthSettings(**{"secret": SECRET, **sections.pop("auth", {})})
    rules = tuple(RoomRule(**rule) for rule in sections.pop("rooms", ()))
    return Settings(
        auth=auth, rooms=rules, **{name: kinds[name](**fields) for name, fields in sections.items()}
    )


OpenNode: TypeAlias = Callable[..., AbstractAsyncContextManager[Node]]


@asynccontextmanager
async def _open_node(
    *,
    engine: Callable[[Callable[[], float]], Engine] | None = None,
    adapt: Callable[[SessionServices], SessionServices] = lambda services: services,
    keeper_seconds: float = 1.0,
    **sections: Any,
) -> AsyncIterator[Node]:
    settings = make_settings(**sections)
    started = trio.current_time()
    log_stream = StringIO()
    log = open_log(LogSettings(format="json"), log_stream)

    def wall_clock() -> float:
        return 1_700_000_000.0 + trio.current_time() - started

    if engine is None:
        engine = lambda clock: MemoryEngine(  # noqa: E731
            wall_clock=clock, idempotency_seconds=settings.history.idempotency_seconds
        )
    kept = engine(wall_clock)
    node: Node
    async with open_rooms(settings, kept, log) as rooms, trio.open_nursery() as nursery:
        connections = Connections(settings.limits.connections_per_user)
        sessions = SessionServices(
            settings,
            rooms,
            RoomPolicy.from_settings(settings),
            open_verifier(settings.auth, wall_clock=wall_clock),
            CommandDecoder(),
        )
        services = ConnectionServices(
            adapt(sessions), connections, WebSocketCodec(), log, lambda: node.is_draining
        )
        admission = Admission(settings.limits.connections, settings.limits.connections_per_address)
        port = Port(services, admission, settings.http, echo_http)
        nursery.start_soon(partial(run_keeper, connections, wall_clock, interval_seconds=keeper_seconds))
        node = Node(
            settings, kept, rooms, connections, admission, services, port, nursery, wall_clock, log_stream
        )
        yield node
        nursery.cancel_scope.cancel()


@pytest.fixture(scope="session")
def open_node() -> OpenNode:
    """Open a node: `async with open_node(limits={"messages_burst": 3}) as node`."""
    return _open_node
