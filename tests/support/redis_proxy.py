"""Stands between the engine and a server, and makes of the way what a test wants: slow, cut, or silent."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import attrs
import trio

P = TypeVar("P", bound="Proxy")


@attrs.define(eq=False)
class Route:
    """One connection through the proxy; that of a feed is known by what it asks for."""

    client: trio.SocketStream
    server: trio.SocketStream
    is_feed: bool = False
    is_mute: bool = False
    """Whether what the server says stays here, though the connection is open."""
    bytes_until_cut: int | None = None
    """How much more of what the server says may pass before the connection is cut."""


@attrs.define(eq=False)
class Proxy:
    """A way to a server, at a port of its own."""

    server_port: int
    port: int = 0
    latency_seconds: float = 0.0
    is_closed: bool = False
    is_closed_to_feeds: bool = False
    gate: trio.Event | None = None
    """What feeds ask for waits until this is set."""
    hold: trio.Event | None = None
    """Whatever the engine sends waits until this is set, and arrives then, though the engine may have given up."""
    routes: list[Route] = attrs.Factory(list)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def feeds(self) -> list[Route]:
        return [route for route in self.routes if route.is_feed]

    def links(self) -> list[Route]:
        return [route for route in self.routes if not route.is_feed]

    def cut(self, routes: list[Route]) -> None:
        """Cut connections in both directions."""
        for route in list(routes):
            route.client.socket.close()
            route.server.socket.close()

    async def pass_on(self, client: trio.SocketStream) -> None:
        """Take one connection to the server until either end closes it."""
        if self.is_closed:
            await trio.aclose_forcefully(client)
            return
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self.server_port)
        except OSError:
            await trio.aclose_forcefully(client)
            return
        route = Route(client, server)
        self.routes.append(route)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, route, client, server, nursery.cancel_scope)
                nursery.start_soon(self._pump, route, server, client, nursery.cancel_scope)
        finally:
            self.routes.remove(route)
            await trio.aclose_forcefully(server)
            await trio.aclose_forcefully(client)

    async def _pump(
        self,
        route: Route,
        source: trio.SocketStream,
        target: trio.SocketStream,
        scope: trio.CancelScope,
    ) -> None:
        try:
            async for data in source:
                if source is route.client:
                    if b"SUBSCRIBE" in data:
                        route.is_feed = True
                    if route.is_feed and self.is_closed_to_feeds:
                        break
                    if route.is_feed and self.gate is not None:
                        await self.gate.wait()
                    if self.hold is not None:
                        await self.hold.wait()
                    await target.send_all(data)
                elif not route.is_mute:
                    await trio.sleep(self.latency_seconds)
                    await target.send_all(data[: route.bytes_until_cut])
                    if route.bytes_until_cut is not None:
                        break
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()


@asynccontextmanager
async def open_proxy(server_port: int, kind: type[P] = Proxy) -> AsyncIterator[P]:  # type: ignore[assignment]
    """Open a way to a server; closed with all its connections when the block ends."""
    proxy = kind(server_port)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy.port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, proxy.pass_on, listeners))
        yield proxy
        nursery.cancel_scope.cancel()
