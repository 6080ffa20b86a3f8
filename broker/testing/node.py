"""The parts of a broker behind a port in memory: no socket and no HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Unpack

import attrs
import trio

from broker.assembly import Assembly, OwnParts, open_assembly
from broker.config.settings import Settings
from broker.log import Log
from broker.testing.line import Line
from broker.transport.admission import Admission, admission_limits
from broker.transport.byte_stream import MemoryByteStream
from broker.transport.connection import ConnectionServices
from broker.transport.port import Port
from broker.transport.streams import ReplayStream


@attrs.define(eq=False)
class MemoryNode:
    """A broker that serves connections in memory; made by `open_memory_node`."""

    assembly: Assembly
    admission: Admission
    services: ConnectionServices
    port: Port
    nursery: trio.Nursery

    def connect(self, address: str = "127.0.0.1", *, port: Port | None = None) -> Line:
        """Connect from an address, to a port other than its own if one is given."""
        line = Line()
        stream = MemoryByteStream(line.server_end, address)
        self.nursery.start_soon((port or self.port).serve_stream, stream)
        return line


def _unchanged(services: ConnectionServices) -> ConnectionServices:
    return services


async def close_http(stream: ReplayStream) -> None:
    """Serve no HTTP."""
    await stream.aclose()


@asynccontextmanager
async def open_memory_node(
    settings: Settings,
    *,
    log: Log,
    adapt: Callable[[ConnectionServices], ConnectionServices] = _unchanged,
    serve_http: Callable[[ReplayStream], Awaitable[None]] = close_http,
    **parts: Unpack[OwnParts],
) -> AsyncIterator[MemoryNode]:
    """Open the parts of a broker; `parts` are those of `open_broker`, and `adapt` may change what serves connections.

    Leaving the block ends all connections at once.
    """
    async with open_assembly(settings, log=log, **parts) as assembly, trio.open_nursery() as nursery:
        # Those who connect in memory speak in the clear.
        services = adapt(attrs.evolve(assembly.services, tls=None))
        admission = Admission(*admission_limits(settings.limits, trio.current_time()))
        port = Port(services, admission, settings.http, serve_http)
        yield MemoryNode(assembly, admission, services, port, nursery)
        nursery.cancel_scope.cancel()
