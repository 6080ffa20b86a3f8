"""A broker in this process, as `broker.assembly` puts one together, without its HTTP side."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from broker.assembly import open_assembly
from broker.auth.mint import mint_token
from broker.config.settings import AuthSettings, HttpSettings, LimitSettings, Settings, WebSocketSettings
from broker.http.app import create_app
from broker.http.hosting.serving import open_http
from broker.log import stdlib_log
from broker.sessions.wire_protocol import WireProtocol
from broker.transport.admission import Admission
from broker.transport.byte_stream import ByteStream
from broker.transport.port import Port

API_KEY = "a-key-of-this-script"
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
    protocol: WireProtocol | None = None, websocket: WebSocketSettings | None = None
) -> AsyncIterator[Node]:
    """Yield a node; leaving the block ends its connections. `protocol` is instead of the broker's own."""
    settings = Settings(
        auth=AuthSettings(secret=_SECRET),
        http=HttpSettings(api_key=API_KEY),
        limits=LimitSettings(
            messages_per_second=1_000_000,
            messages_burst=1_000_000,
            user_bytes_per_second=1 << 40,
            user_bytes_burst=1 << 30,
        ),
        websocket=websocket or WebSocketSettings(),
    )
    log = stdlib_log()
    opening = open_assembly(settings, log=log, wall_clock=lambda: _NOW, boot_clock=lambda: _NOW)
    async with opening as assembly, trio.open_nursery() as nursery:
        services = assembly.services
        if protocol is not None:
            services = attrs.evolve(services, protocols=[protocol])
        admission = Admission(settings.limits.connections, settings.limits.connections_per_address)
        ours = create_app(assembly.http)
        async with open_http(ours, settings.http, log, posts=ours.plain_posts) as http:
            yield Node(Port(services, admission, settings.http, http.serve), nursery)
            http.abort()
            nursery.cancel_scope.cancel()
