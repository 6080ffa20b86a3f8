"""A broker in this process, as `broker.assembly` puts one together, without its HTTP side."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from broker.auth.mint import mint_token
from broker.auth.permissions import RoomPolicy
from broker.auth.tokens import open_verifier
from broker.config.settings import AuthSettings, LimitSettings, Settings
from broker.engine.memory import MemoryEngine
from broker.log import stdlib_log
from broker.rooms.directory import open_rooms
from broker.sessions.connections import Connections
from broker.sessions.session import SessionServices
from broker.sessions.wire_protocol import WireProtocol
from broker.transport.admission import Admission
from broker.transport.byte_stream import ByteStream
from broker.transport.connection import ConnectionServices
from broker.transport.flusher import open_flusher
from broker.transport.native_protocol import native_protocol
from broker.transport.port import Port
from broker.transport.pump import open_pump
from broker.transport.streams import ReplayStream

_SECRET = "a secret of this script, long enough"
_NOW = 1_700_000_000.0


@attrs.frozen
class Node:
    """Takes connections; time stands still in it."""

    port: Port
    nursery: trio.Nursery

    def connect(self, stream: ByteStream) -> None:
        """Serve the stream as a new connection."""
        self.nursery.start_soon(self.port.serve_stream, stream)


def target_of(room: str, user: str) -> str:
    """Return what a client asks for that joins a room, or none if that is empty."""
    token = mint_token(secret=_SECRET, algorithm="HS256", user_id=user, ttl_seconds=3600, now=_NOW)
    return f"/ws/{room}?token={token}" if room else f"/ws?token={token}"


@asynccontextmanager
async def open_node(
    protocol: WireProtocol | None = None,
) -> AsyncIterator[Node]:
    """Yield a node; leaving the block ends its connections. `protocol` is instead of the broker's own."""
    settings = Settings(
        auth=AuthSettings(secret=_SECRET),
        limits=LimitSettings(messages_per_second=1_000_000, messages_burst=1_000_000),
    )
    log = stdlib_log()
    engine = MemoryEngine(wall_clock=lambda: _NOW, idempotency_seconds=settings.history.idempotency_seconds)
    async with (
        open_rooms(settings, engine, log) as rooms,
        open_pump() as pump,
        open_flusher() as flusher,
        trio.open_nursery() as nursery,
    ):
        verifier = open_verifier(settings.auth, wall_clock=lambda: _NOW)
        sessions = SessionServices(settings, rooms, RoomPolicy.from_settings(settings), verifier)
        connections = Connections(settings.limits.connections_per_user)
        services = ConnectionServices(
            sessions, connections, [protocol or native_protocol()], log, lambda: False, flusher, pump
        )
        admission = Admission(settings.limits.connections, settings.limits.connections_per_address)
        yield Node(Port(services, admission, settings.http, _refuse_http), nursery)
        nursery.cancel_scope.cancel()


async def _refuse_http(stream: ReplayStream) -> None:
    await stream.aclose()
