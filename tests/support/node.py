"""The node in memory of `broker.testing` with its insides, on virtual time, and peers that say what they like.

Peers talk to it over streams in memory, or over real sockets after `Node.listen`.
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
from trio.testing import wait_all_tasks_blocked
from trio_websocket import wrap_client_stream

from broker.auth.mint import mint_token
from broker.config.settings import (
    AuthSettings,
    HistorySettings,
    HttpSettings,
    LimitSettings,
    LogSettings,
    RoomRule,
    RoomSettings,
    ServerSettings,
    Settings,
    WebSocketSettings,
)
from broker.engine.base import Engine
from broker.hooks import Hook
from broker.log import open_log
from broker.rooms.directory import Rooms
from broker.sessions.connections import Connections
from broker.sessions.heartbeat import run_heartbeat
from broker.sessions.session import SessionServices
from broker.sessions.wire_protocol import WireProtocol
from broker.testing.node import MemoryNode, open_memory_node
from broker.transport.connection import ConnectionServices
from broker.transport.port import Port
from broker.transport.streams import ReplayStream
from tests.support.peers import LONGEST_SECONDS, Client, Message, RawPeer
from tests.support.secrets import API_KEY, SECRET


@attrs.define(eq=False)
class Node(MemoryNode):
    """The parts that `open_node` has put together."""

    wall_clock: Callable[[], float]
    log: StringIO
    gone: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)

    @property
    def settings(self) -> Settings:
        return self.assembly.http.settings

    @property
    def engine(self) -> Engine:
        return self.assembly.http.engine

    @property
    def rooms(self) -> Rooms:
        return self.assembly.http.rooms

    @property
    def connections(self) -> Connections:
        return self.services.connections

    def begin_drain(self) -> None:
        self.assembly.draining.set()

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
        return self.connect(address, port=services and self.make_port(services)).client_end

    async def dialled(self) -> trio.StapledStream[Any, Any]:
        """Connect, as the `dial` of a client does."""
        await trio.lowlevel.checkpoint()
        return self.dial()

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
        """Serve a free port of 127.0.0.1 as well, with TLS if there is a certificate; returns its number."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = self.make_port(attrs.evolve(self.services, tls=self.assembly.services.tls))

        async def serve(stream: trio.SocketStream) -> None:
            await port.serve(stream)
            self.gone.unpark_all()

        self.nursery.start_soon(partial(trio.serve_listeners, serve, listeners, handler_nursery=self.nursery))
        number: int = listeners[0].socket.getsockname()[1]
        return number

    async def wait_gone(self, left: int) -> None:
        """Wait until all connections over TCP but so many have ended, and the rooms have heard of it."""
        while len(self.admission) > left:
            await self.gone.park()
        await wait_all_tasks_blocked()

    def log_lines(self) -> list[Message]:
        """The log lines besides refusals."""
        return [line for line in self._all_lines() if line["event"] != "refused"]

    def refusals(self) -> list[Message]:
        """The log lines of refusals."""
        return [line for line in self._all_lines() if "why" in line]

    def _all_lines(self) -> list[Message]:
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
        "server": ServerSettings,
        "http": HttpSettings,
        "websocket": WebSocketSettings,
        "limits": LimitSettings,
        "history": HistorySettings,
        "room": RoomSettings,
    }
    auth = AuthSettings(**{"secret": SECRET, **sections.pop("auth", {})})
    sections["http"] = {"api_key": API_KEY, **sections.get("http", {})}
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
    protocols: Sequence[WireProtocol] = (),
    heartbeat_seconds: float | None = None,
    hooks: Sequence[Hook] = (),
    **sections: Any,
) -> AsyncIterator[Node]:
    settings = make_settings(**sections)
    started = trio.current_time()
    log_stream = StringIO()

    def wall_clock() -> float:
        return 1_700_000_000.0 + trio.current_time() - started

    def adapt_services(services: ConnectionServices) -> ConnectionServices:
        return attrs.evolve(
            services, sessions=adapt(services.sessions), protocols=protocols or services.protocols
        )

    opening = open_memory_node(
        settings,
        log=open_log(LogSettings(format="json"), log_stream),
        adapt=adapt_services,
        serve_http=echo_http,
        engine=None if engine is None else engine(wall_clock),
        wall_clock=wall_clock,
        boot_clock=wall_clock,
        hooks=hooks,
    )
    async with opening as node:
        if heartbeat_seconds is not None:
            node.nursery.start_soon(
                partial(
                    run_heartbeat, node.services.connections, wall_clock, interval_seconds=heartbeat_seconds
                )
            )
        yield Node(*attrs.astuple(node, recurse=False), wall_clock, log_stream)


@pytest.fixture(scope="session")
def open_node() -> OpenNode:
    """Open a node: `async with open_node(limits={"messages_burst": 3}) as node`."""
    return _open_node
