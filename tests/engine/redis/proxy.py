"""Stands between the engine and a server, and makes of the way what a test wants: slow, cut, or silent."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import attrs
import trio

P = TypeVar("P", bound="Proxy")


@attrs.define(eq=False)
class Passage:
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
    passages: list[Passage] = attrs.Factory(list)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def feeds(self) -> list[Passage]:
        return [passage for passage in self.passages if passage.is_feed]

    def links(self) -> list[Passage]:
        return [passage for passage in self.passages if not passage.is_feed]

    def cut(self, passages: list[Passage]) -> None:
        """Cut connections in both directions."""
        for passage in list(passages):
            passage.client.socket.close()
            passage.server.socket.close()

    async def pass_on(self, client: trio.SocketStream) -> None:
        """Take one connection to the server until either end closes it."""
        if self.is_closed:
            await trio.aclose_forcefully(client)
            return
        server = await trio.open_tcp_stream("127.0.0.1", self.server_port)
        passage = Passage(client, server)
        self.passages.append(passage)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, passage, client, server, nursery.cancel_scope)
                nursery.start_soon(self._pump, passage, server, client, nursery.cancel_scope)
        finally:
            self.passages.remove(passage)
            await trio.aclose_forcefully(server)
            await trio.aclose_forcefully(client)

    async def _pump(
        self, passage: Passage, source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        try:
            async for data in source:
                if source is passage.client:
                    if b"SUBSCRIBE" in data:
                        passage.is_feed = True
                    if passage.is_feed and self.is_closed_to_feeds:
                        break
                    if passage.is_feed and self.gate is not None:
                        await self.gate.wait()
                    await target.send_all(data)
                elif not passage.is_mute:
                    await trio.sleep(self.latency_seconds)
                    await target.send_all(data[: passage.bytes_until_cut])
                    if passage.bytes_until_cut is not None:
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
